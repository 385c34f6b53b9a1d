// Spawn: goroutines that end at once, started in batches. One iteration is one goroutine: one wait
// Runnable→Running by way of newproc, besides those of the spawner itself.
package main

import (
	"flag"
	"sync"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	batch := flag.Int("batch", 64, "goroutines made before their end is waited for")
	control.Main(control.Workload{Name: "spawn", Run: func(p *control.Phase) {
		c := control.NewCounter()
		for n := uint64(0); p.More(n); {
			size := uint64(*batch)
			if p.Limit > 0 && p.Limit-n < size {
				size = p.Limit - n
			}
			var all sync.WaitGroup
			all.Add(int(size))
			for i := uint64(0); i < size; i++ {
				go all.Done()
			}
			all.Wait()
			c.Add(size)
			n += size
		}
	}})
}
