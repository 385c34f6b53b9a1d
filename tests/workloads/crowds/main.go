// Crowds: goroutines that are all alive at once, end, and are followed by as many others. Only one batch of them is
// runnable at a time. One iteration is one goroutine: one wait Runnable→Running by way of newproc, and one when it is
// released.
package main

import (
	"flag"
	"sync"

	"gmpscope.test/workloads/internal/control"
)

// batch is a number of goroutines that are released together.
type batch struct {
	release chan struct{}
	ended   sync.WaitGroup
}

func main() {
	size := flag.Int("size", 100000, "goroutines that are alive at once")
	atOnce := flag.Int("batch", 1000, "goroutines that are runnable at once")
	control.Main(control.Workload{Name: "crowds", Run: func(p *control.Phase) {
		c := control.NewCounter()
		for n := uint64(0); p.More(n); {
			left := uint64(*size)
			if p.Limit > 0 && p.Limit-n < left {
				left = p.Limit - n
			}
			n += left
			var crowd []*batch
			for left > 0 && !p.Stopped() {
				made := uint64(*atOnce)
				if left < made {
					made = left
				}
				left -= made
				crowd = append(crowd, makeBatch(int(made)))
				c.Add(made)
			}
			for _, b := range crowd {
				close(b.release)
				b.ended.Wait()
			}
		}
	}})
}

// makeBatch makes goroutines, and returns when each has run.
func makeBatch(size int) *batch {
	b := &batch{release: make(chan struct{})}
	b.ended.Add(size)
	var began sync.WaitGroup
	began.Add(size)
	for i := 0; i < size; i++ {
		go func() {
			defer b.ended.Done()
			began.Done()
			<-b.release
		}()
	}
	began.Wait()
	return b
}
