// Exits_early: plays ping-pong for a while, then ends with status 0.
package main

import (
	"flag"
	"os"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	after := flag.Duration("after", 300*time.Millisecond, "how long after `go`")
	control.Main(control.Workload{Name: "exits_early", Run: func(p *control.Phase) {
		there, back := make(chan struct{}), make(chan struct{})
		go func() {
			for range there {
				back <- struct{}{}
			}
		}()
		c := control.NewCounter()
		for end := time.Now().Add(*after); time.Now().Before(end); {
			there <- struct{}{}
			<-back
			c.Add(1)
		}
		os.Exit(0)
	}})
}
