package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// serve answers orders, and collects metrics meanwhile.
func serve() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	work := flag.Duration("work", 400*time.Microsecond, "CPU time of an order")
	collect := flag.Bool("collect", false, "compute all series each time that metrics are collected")
	var metrics *metricsCollector
	control.Main(control.Workload{
		Name: "shop",
		Setup: func() map[string]interface{} {
			l, err := net.Listen("tcp", *listen)
			control.Check(err)
			metrics = newMetricsCollector(*collect)
			orders, rounds := control.NewCounter(), control.LoopsFor(*work)
			http.HandleFunc("/order", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintln(w, control.Loops(rounds))
				metrics.Sold()
				orders.Add(1)
			})
			go func() { control.Check(http.Serve(l, nil)) }()
			if !control.Controlled() {
				fmt.Println(l.Addr())
			}
			return map[string]interface{}{"addr": l.Addr().String()}
		},
		// The orders come from outside.
		Run: func(p *control.Phase) { metrics.Run(p) },
	})
}
