// Gosched_storm: goroutines that do nothing but yield. One iteration is one runtime.Gosched: one wait
// Runnable→Running by way of the global run queue.
package main

import (
	"flag"
	"runtime"
	"sync"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	goroutines := flag.Int("goroutines", 64, "how many")
	control.Main(control.Workload{Name: "gosched_storm", Run: func(p *control.Phase) {
		var all sync.WaitGroup
		for i, c := range control.NewCounters(*goroutines) {
			limit := p.Limit / uint64(*goroutines)
			if uint64(i) < p.Limit%uint64(*goroutines) {
				limit++
			}
			all.Add(1)
			go func(c *control.Counter) {
				defer all.Done()
				for n := uint64(0); !p.Stopped() && (p.Limit == 0 || n < limit); n++ {
					runtime.Gosched()
					c.Add(1)
				}
			}(c)
		}
		all.Wait()
	}})
}
