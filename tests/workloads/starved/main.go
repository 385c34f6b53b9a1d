// Starved: goroutines that can run and do not, since one of them computes without a pause. It needs
// GODEBUG=asyncpreemptoff=1, so that it cannot be preempted, and GOMAXPROCS=1. With -stop and GOMAXPROCS=2, another
// goroutine asks the world to stop meanwhile, and it does not. A phase cannot be ended before the loop is.
package main

import (
	"flag"
	"runtime"
	"time"

	"gmpscope.test/workloads/internal/control"
)

var (
	waiting = flag.Int("waiting", 100, "goroutines that are made before the loop")
	length  = flag.Duration("loop", 30*time.Second, "about how long it takes")
	stop    = flag.Bool("stop", false, "ask the world to stop during the loop")
)

func main() {
	control.Main(control.Workload{Name: "starved", Run: starve})
}

func starve(p *control.Phase) {
	const steps = 20_000_000
	began := time.Now()
	loop(steps)
	times := uint64(*length) / uint64(time.Since(began)+1)
	for i := 0; i < *waiting; i++ {
		go wait(p)
	}
	if !*stop {
		loop(times * steps)
		return
	}
	go loop(times * steps)
	time.Sleep(100 * time.Millisecond)
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
}

func wait(p *control.Phase) { <-p.Done() }

// loop has no call, and so no place at which it would give way.
//
//go:noinline
func loop(n uint64) (x uint64) {
	for i := uint64(0); i < n; i++ {
		x += i ^ (x << 1)
	}
	return x
}
