// Yields: nearly all waits are those of a goroutine that calls runtime.Gosched while there is nothing else to run, as
// the garbage collector does when it sweeps. The few others are known: on one P, goroutines that are released at the
// same moment each occupy it for the same time, so that they wait once, twice, … as long. One iteration is one such
// round, after its yields.
package main

import (
	"flag"
	"runtime"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	yields := flag.Int("yields", 245, "times that runtime.Gosched is called before each round")
	waiters := flag.Int("waiters", 4, "goroutines that are released at once")
	loop := flag.Duration("loop", 200*time.Microsecond, "CPU time of each, and of who releases them")
	var loops uint64
	control.Main(control.Workload{
		Name: "yields",
		Setup: func() map[string]interface{} {
			runtime.GOMAXPROCS(1)
			loops = control.LoopsFor(*loop)
			return map[string]interface{}{"yields": *yields, "waiters": *waiters, "loop_ns": loop.Nanoseconds()}
		},
		Run: func(p *control.Phase) {
			var round, all sync.WaitGroup
			var release []chan struct{}
			for i := 0; i < *waiters; i++ {
				released := make(chan struct{})
				release = append(release, released)
				all.Add(1)
				go func() {
					defer all.Done()
					for range released {
						control.Loops(loops)
						round.Done()
					}
				}()
			}
			c := control.NewCounter()
			for n := uint64(0); p.More(n); n++ {
				for i := 0; i < *yields; i++ {
					runtime.Gosched()
				}
				round.Add(*waiters)
				for _, released := range release {
					released <- struct{}{}
				}
				control.Loops(loops)
				round.Wait()
				c.Add(1)
			}
			for _, released := range release {
				close(released)
			}
			all.Wait()
		},
	})
}
