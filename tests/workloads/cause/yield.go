package main

import (
	"runtime"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// yielded: more goroutines than Ps (GOMAXPROCS=1), each of which gives way after every 50 µs, of its own will. In the twin
// each waits for a baton instead, and passes its own on.
func yielded(p *control.Phase, twin bool) {
	const goroutines = 4
	loops := control.LoopsFor(50 * time.Microsecond)
	batons := make([]chan struct{}, goroutines)
	for i := range batons {
		batons[i] = make(chan struct{}, 1)
	}
	var all sync.WaitGroup
	for i, c := range control.NewCounters(goroutines) {
		all.Add(1)
		go func(own, next chan struct{}, c *control.Counter) {
			defer all.Done()
			for !p.Stopped() {
				control.Loops(loops)
				c.Add(1)
				if !twin {
					runtime.Gosched()
					continue
				}
				if !pass(p, next, own) {
					return
				}
			}
		}(batons[i], batons[(i+1)%goroutines], c)
	}
	all.Wait()
}

// pass gives a baton to the next goroutine and waits for the own one. It returns false where the phase is to end.
func pass(p *control.Phase, next chan<- struct{}, own <-chan struct{}) bool {
	select {
	case next <- struct{}{}:
	case <-p.Done():
		return false
	}
	select {
	case <-own:
		return true
	case <-p.Done():
		return false
	}
}
