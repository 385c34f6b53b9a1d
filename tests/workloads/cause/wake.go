package main

import (
	"sync"
	"sync/atomic"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// woken: there are two Ps, and a goroutine is released while one of them is idle: it waits until a thread for that P has
// been woken and has a CPU. It needs GOMAXPROCS=2, one CPU for the whole process, and SCHED_BATCH, so that a thread that is
// woken waits until the kernel takes the CPU from the one that runs.
//
// That one runs a second goroutine, which spins until the first has run. It is released after the first, and so is the
// next to run on the P of whoever released both (`p.runnext`); the first is in the queue, from which the other P's thread
// takes it at once. The twin has one P (GOMAXPROCS=1): the first waits until the second has had enough.
func woken(p *control.Phase, _ bool) {
	const enough = 5 * time.Millisecond
	first, second := make(chan uint64), make(chan uint64)
	var ran atomic.Uint64
	var all sync.WaitGroup
	all.Add(2)
	go func() {
		defer all.Done()
		for n := range first {
			ran.Store(n)
		}
	}()
	go func() {
		defer all.Done()
		for n := range second {
			for end := time.Now().Add(enough); ran.Load() < n && time.Now().Before(end); {
			}
		}
	}()
	c := control.NewCounter()
	for n := uint64(1); p.More(n - 1); n++ {
		first <- n
		second <- n
		time.Sleep(time.Millisecond)
		c.Add(1)
	}
	close(first)
	close(second)
	all.Wait()
}
