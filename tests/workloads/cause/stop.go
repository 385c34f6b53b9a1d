package main

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// stopped: a crowd is released, and the world is to stop at the same moment, which it cannot for 2 to 8 ms, since one
// goroutine computes without a place at which it would give way. It needs GODEBUG=asyncpreemptoff=1 and GOMAXPROCS=2.
//
// The goroutine that stops the world occupies the other P until it is asked to, so that nobody takes the crowd before. The
// twin's only occupies it. A round begins once it is back from the one before, so that each round has a stop of its own.
func stopped(p *control.Phase, twin bool) {
	const end = math.MaxUint64
	crowd := newCrowd()
	var asked atomic.Uint64
	occupied := make(chan struct{}, 1)
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		var stats runtime.MemStats
		seen := uint64(0)
		occupied <- struct{}{}
		for {
			now := asked.Load()
			if now == end {
				return
			}
			if now == seen {
				continue
			}
			seen = now
			if !twin {
				runtime.ReadMemStats(&stats)
			}
			occupied <- struct{}{}
		}
	}()
	perMillisecond := control.LoopsFor(time.Millisecond)
	c := control.NewCounter()
	for n := uint64(0); p.More(n); n++ {
		<-occupied
		crowd.release()
		asked.Add(1)
		control.Loops(2*perMillisecond + spread(n, 6*perMillisecond))
		crowd.await()
		c.Add(1)
	}
	asked.Store(end)
	all.Wait()
	crowd.end()
}

// spread returns numbers below limit, evenly spread over it for successive n.
func spread(n, limit uint64) uint64 { return n * 37 % 97 * limit / 97 }
