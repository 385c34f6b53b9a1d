// Churn: goroutines that live for one sleep, so that at any moment very many are alive and each of them is
// new: a load for the per-goroutine maps of a tracer. One iteration is one goroutine.
package main

import (
	"flag"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	alive := flag.Int("alive", 20000, "goroutines at a time")
	life := flag.Duration("life", 200*time.Millisecond, "how long each sleeps")
	control.Main(control.Workload{Name: "churn", Run: func(p *control.Phase) {
		c := control.NewCounter()
		for n := uint64(0); p.More(n); {
			var all sync.WaitGroup
			for i := 0; i < *alive && p.More(n); i++ {
				all.Add(1)
				go func() {
					defer all.Done()
					time.Sleep(*life)
				}()
				c.Add(1)
				n++
			}
			all.Wait()
		}
	}})
}
