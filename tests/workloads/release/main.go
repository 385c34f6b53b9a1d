// Release: on one P, goroutines that all become runnable at the same moment, each of which then occupies the P
// for the same time: the k-th to run has waited k times as long. One iteration is one such round.
package main

import (
	"flag"
	"runtime"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	goroutines := flag.Int("goroutines", 32, "released at once; all together should stay below the 10 ms of a preemption step")
	loop := flag.Duration("loop", 200*time.Microsecond, "for how long each occupies the P")
	control.Main(control.Workload{
		Name: "release",
		Setup: func() map[string]interface{} {
			runtime.GOMAXPROCS(1)
			return map[string]interface{}{"goroutines": *goroutines, "loop_ns": loop.Nanoseconds()}
		},
		Run: func(p *control.Phase) {
			c := control.NewCounter()
			for n := uint64(0); p.More(n); n++ {
				var waiting, all sync.WaitGroup
				start := make(chan struct{})
				for i := 0; i < *goroutines; i++ {
					waiting.Add(1)
					all.Add(1)
					go func() {
						defer all.Done()
						waiting.Done()
						<-start
						control.Spin(*loop)
					}()
				}
				waiting.Wait()
				// The last of them has announced that it waits, but may not wait yet.
				runtime.Gosched()
				close(start)
				all.Wait()
				c.Add(1)
			}
		},
	})
}
