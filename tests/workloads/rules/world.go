package main

import (
	"runtime"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// stops stops the world, while a goroutine runs a loop without calls. With GODEBUG=asyncpreemptoff=1 the loop cannot be
// interrupted, and the stop waits for it; without, it can.
func stops(p *control.Phase, c *control.Counter) {
	work := control.LoopsFor(60 * time.Millisecond)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !p.Stopped() {
			control.Loops(work)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	var stats runtime.MemStats
	for !p.Stopped() {
		runtime.ReadMemStats(&stats)
		c.Add(1)
		time.Sleep(10 * time.Millisecond)
	}
	<-ended
}

// resizes changes GOMAXPROCS twenty times a second; its twin does not.
func resizes(p *control.Phase, c *control.Counter) {
	usual := runtime.GOMAXPROCS(0)
	for n := 0; !p.Stopped(); n++ {
		if !*twin {
			runtime.GOMAXPROCS(usual + n%2)
		}
		c.Add(1)
		time.Sleep(50 * time.Millisecond)
	}
	if !*twin {
		runtime.GOMAXPROCS(usual)
	}
}
