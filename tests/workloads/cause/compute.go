package main

import (
	"sync"
	"sync/atomic"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// computers is the number of goroutines that compute.
const computers = 4

// computing: goroutines that compute, in pieces of 1 ms of CPU time, and never block. With GOMAXPROCS=1 all but one of
// them are Runnable at each moment, so that all waiting is due to what the one P does: run another of them (p_busy), or
// wait for a CPU, which other processes have (os_preempted) or the CPU quota refuses (cgroup_throttled).
//
// In the twin, for GOMAXPROCS=2, there are fewer than Ps: one that computes, and one that a timer wakes for a moment.
func computing(p *control.Phase, twin bool) {
	goroutines := computers
	var all sync.WaitGroup
	if twin {
		goroutines = 1
		all.Add(1)
		go func() {
			defer all.Done()
			for !p.Stopped() {
				time.Sleep(500 * time.Microsecond)
				control.Spin(5 * time.Microsecond)
			}
		}()
	}
	loops := control.LoopsFor(time.Millisecond)
	var begun atomic.Uint64
	for _, c := range control.NewCounters(goroutines) {
		all.Add(1)
		go func(c *control.Counter) {
			defer all.Done()
			for p.More(begun.Add(1) - 1) {
				control.Loops(loops)
				c.Add(1)
			}
		}(c)
	}
	all.Wait()
}
