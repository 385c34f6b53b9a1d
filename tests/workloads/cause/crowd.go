package main

import (
	"sync"
	"sync/atomic"
)

// crowdSize is how many goroutines are released at once.
const crowdSize = 8

// crowd is goroutines that wait until they are released, do next to nothing, and wait again. How long they are Runnable
// is up to whoever has the Ps when they are released.
type crowd struct {
	releases []chan struct{}
	// waiting is how many of those that were released have not run yet.
	waiting atomic.Int64
	// haveRun receives once all of them have run.
	haveRun chan struct{}
	ended   sync.WaitGroup
}

func newCrowd() *crowd {
	c := &crowd{haveRun: make(chan struct{}, 1)}
	for i := 0; i < crowdSize; i++ {
		release := make(chan struct{})
		c.releases = append(c.releases, release)
		c.ended.Add(1)
		go func() {
			defer c.ended.Done()
			for range release {
				if c.waiting.Add(-1) == 0 {
					c.haveRun <- struct{}{}
				}
			}
		}()
	}
	return c
}

// release makes all of them runnable.
func (c *crowd) release() {
	c.waiting.Store(crowdSize)
	for _, release := range c.releases {
		release <- struct{}{}
	}
}

// someRan reports whether any has run since it was released.
func (c *crowd) someRan() bool { return c.waiting.Load() < crowdSize }

// await waits until all of them have run.
func (c *crowd) await() { <-c.haveRun }

// end ends all of them.
func (c *crowd) end() {
	for _, release := range c.releases {
		close(release)
	}
	c.ended.Wait()
}
