// Pool: workers that take short jobs from one unbuffered channel as fast as one feeder hands them out, so
// that nearly all workers are runnable all the time. One iteration is one job.
package main

import (
	"flag"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	workers := flag.Int("workers", 64, "goroutines that take jobs")
	job := flag.Duration("job", 10*time.Microsecond, "CPU time of a job")
	var loops uint64
	control.Main(control.Workload{
		Name: "pool",
		Setup: func() map[string]interface{} {
			loops = control.LoopsFor(*job)
			return map[string]interface{}{"loops": loops}
		},
		Run: func(p *control.Phase) {
			jobs := make(chan uint64)
			var all sync.WaitGroup
			for _, c := range control.NewCounters(*workers) {
				all.Add(1)
				go func(c *control.Counter) {
					defer all.Done()
					for n := range jobs {
						control.Loops(n)
						c.Add(1)
					}
				}(c)
			}
			for n := uint64(0); p.More(n); n++ {
				jobs <- loops
			}
			close(jobs)
			all.Wait()
		},
	})
}
