package main

import (
	"runtime"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// computes has more goroutines that compute than there are Ps; its twin has one. It starts them itself, since findings name
// the function of the go statement.
func computes(p *control.Phase, c *control.Counter) {
	n := *goroutines
	if *twin {
		n = 1
	}
	work := control.LoopsFor(time.Millisecond)
	var all sync.WaitGroup
	all.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			defer all.Done()
			for !p.Stopped() {
				control.Loops(work)
				c.Add(1)
			}
		}()
	}
	all.Wait()
}

// wakes has goroutines that timers wake all the time, for a moment each: it has no pathology of its own.
func wakes(p *control.Phase, c *control.Counter) {
	work := control.LoopsFor(50 * time.Microsecond)
	each(20, p, c, func() {
		time.Sleep(time.Millisecond)
		control.Loops(work)
	})
}

// yields has goroutines that give way all the time; in its twin, pairs of them wake each other.
func yields(p *control.Phase, c *control.Counter) {
	if !*twin {
		each(4, p, c, runtime.Gosched)
		return
	}
	ping, pong := make(chan struct{}), make(chan struct{})
	go func() {
		for range ping {
			pong <- struct{}{}
		}
	}()
	for !p.Stopped() {
		ping <- struct{}{}
		<-pong
		c.Add(1)
	}
	close(ping)
}
