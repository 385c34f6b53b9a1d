// Http_hello: the smallest net/http server, for a load generator. Its address is in "extra" of every event
// and, without -control, the first line of its output. One iteration is one request.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	control.Main(control.Workload{
		Name: "http_hello",
		Setup: func() map[string]interface{} {
			l, err := net.Listen("tcp", *listen)
			control.Check(err)
			c := control.NewCounter()
			http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "hello\n")
				c.Add(1)
			})
			go func() { control.Check(http.Serve(l, nil)) }()
			if !control.Controlled() {
				fmt.Println(l.Addr())
			}
			return map[string]interface{}{"addr": l.Addr().String()}
		},
		// The load comes from outside: the server answers even while the workload is parked.
		Run: func(p *control.Phase) { <-p.Done() },
	})
}
