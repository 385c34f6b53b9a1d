// Oversubscribed: 64 goroutines on two Ps that never block and yield after each job. 62 of them are
// runnable at any moment, so all waits together are 62 times the time that passed. One iteration is one job.
package main

import (
	"flag"
	"runtime"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	goroutines := flag.Int("goroutines", 64, "how many")
	procs := flag.Int("procs", 2, "GOMAXPROCS")
	job := flag.Duration("job", 100*time.Microsecond, "for how long each occupies its P before it yields")
	control.Main(control.Workload{
		Name: "oversubscribed",
		Setup: func() map[string]interface{} {
			runtime.GOMAXPROCS(*procs)
			return map[string]interface{}{"goroutines": *goroutines, "job_ns": job.Nanoseconds()}
		},
		Run: func(p *control.Phase) {
			var all sync.WaitGroup
			for _, c := range control.NewCounters(*goroutines) {
				all.Add(1)
				go func(c *control.Counter) {
					defer all.Done()
					for !p.Stopped() {
						control.Spin(*job)
						c.Add(1)
						runtime.Gosched()
					}
				}(c)
			}
			all.Wait()
		},
	})
}
