// Spinner: goroutines that never yield, on one P. Each runs until sysmon preempts it, 10 ms on, so every
// wait takes one preemption step for each of the others.
package main

import (
	"flag"
	"runtime"
	"sync"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	spinners := flag.Int("spinners", 2, "how many")
	control.Main(control.Workload{
		Name: "spinner",
		Setup: func() map[string]interface{} {
			runtime.GOMAXPROCS(1)
			return nil
		},
		Run: func(p *control.Phase) {
			var all sync.WaitGroup
			for _, c := range control.NewCounters(*spinners) {
				all.Add(1)
				go func(c *control.Counter) {
					defer all.Done()
					for !p.Stopped() {
						control.Loops(1000)
						c.Add(1)
					}
				}(c)
			}
			all.Wait()
		},
	})
}
