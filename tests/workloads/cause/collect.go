package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gmpscope.test/workloads/internal/control"
)

type object struct{ next *object }

// pointers are what the collector has to look at: 64 MB of them, in few objects, so that it has little to sweep.
var pointers [][]*object

// collected: a crowd is released just before a collection that keeps all Ps to itself while it marks, as
// GODEBUG=gcstoptheworld=1 asks for: the runtime then runs a dedicated worker on each P, and no other goroutine until it
// has marked. Without that setting the collector takes a quarter of the Ps, and of the others only what is idle, so that
// hardly anybody waits for it. It needs GOMAXPROCS=2.
//
// Another goroutine occupies the other P, so that nobody takes the crowd before the collection begins; it, too, waits
// until the end of it. The twin sleeps instead of collecting.
func collected(p *control.Phase, twin bool) {
	if pointers == nil {
		fillHeap()
	}
	crowd := newCrowd()
	var beat atomic.Uint64
	var isOver atomic.Bool
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		for !isOver.Load() {
			beat.Add(1)
		}
	}()
	c := control.NewCounter()
	for n := uint64(0); p.More(n); n++ {
		for seen := beat.Load(); beat.Load() == seen; {
		}
		crowd.release()
		if twin {
			time.Sleep(5 * time.Millisecond)
		} else {
			runtime.GC()
		}
		crowd.await()
		c.Add(1)
	}
	isOver.Store(true)
	all.Wait()
	crowd.end()
}

func fillHeap() {
	const arrays, length = 16, 512 << 10
	objects := make([]object, 1<<16)
	for i := 0; i < arrays; i++ {
		array := make([]*object, length)
		for j := range array {
			array[j] = &objects[(j*31+i)%len(objects)]
		}
		pointers = append(pointers, array)
	}
}
