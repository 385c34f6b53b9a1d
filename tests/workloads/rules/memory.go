package main

import (
	"runtime"
	"runtime/debug"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// node is what the collector must follow one by one.
type node struct {
	next *node
	_    [6]uint64
}

// list makes a list of n nodes.
func list(n int) *node {
	var first *node
	for i := 0; i < n; i++ {
		first = &node{next: first}
	}
	return first
}

// allocates has goroutines that allocate faster than the collector marks, beside one long list of which nothing can be freed:
// whoever marks it has all the work, so that the others, who owe some for what they allocate, find none and wait. The
// goroutines of its twin use what they have allocated once.
func allocates(p *control.Phase, c *control.Counter) {
	debug.SetGCPercent(10)
	live := list(1_000_000)
	each(*goroutines, p, c, func() {
		own := list(1000)
		for *twin && !p.Stopped() {
			for at := own; at != nil; at = at.next {
			}
		}
	})
	runtime.KeepAlive(live)
}

// collects has the collector mark a large heap again and again; its twin only has the heap.
func collects(p *control.Phase, c *control.Counter) {
	live := make([]*node, 2000)
	for i := range live {
		live[i] = list(1000)
	}
	for !p.Stopped() {
		if *twin {
			time.Sleep(10 * time.Millisecond)
		} else {
			runtime.GC()
		}
		c.Add(1)
	}
	runtime.KeepAlive(live)
}
