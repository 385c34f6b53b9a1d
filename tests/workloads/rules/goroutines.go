package main

import (
	"sync"
	"syscall"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// blocks has goroutines that sleep in the kernel, each with a thread of its own; those of its twin wait for timers.
func blocks(p *control.Phase, c *control.Counter) {
	const pause = 200 * time.Millisecond
	each(*goroutines, p, c, func() {
		if *twin {
			time.Sleep(pause)
			return
		}
		ts := syscall.NsecToTimespec(int64(pause))
		_ = syscall.Nanosleep(&ts, nil)
	})
}

// leaks makes goroutines that wait for what does not come, a thousand in a second; those of its twin end at once.
func leaks(p *control.Phase, c *control.Counter) {
	for !p.Stopped() {
		if *twin {
			go func() {}()
		} else {
			go waitForEnd(p)
		}
		c.Add(1)
		time.Sleep(time.Millisecond)
	}
}

func waitForEnd(p *control.Phase) { <-p.Done() }

// locks has goroutines that compute for long after they have unlocked what others wait for. Those of its twin sleep.
func locks(p *control.Phase, c *control.Counter) {
	short, long := control.LoopsFor(500*time.Microsecond), control.LoopsFor(8*time.Millisecond)
	var mutex sync.Mutex
	each(4, p, c, func() {
		mutex.Lock()
		control.Loops(short)
		mutex.Unlock()
		if *twin {
			time.Sleep(8 * time.Millisecond)
		} else {
			control.Loops(long)
		}
	})
}

// trickles wakes a goroutine that has next to nothing to do, after each 50 µs that a thread sleeps in the kernel: an idle
// program would round the time of a timer up to a millisecond. Its twin does so each 10 ms.
func trickles(p *control.Phase, c *control.Counter) {
	pause := 50 * time.Microsecond
	if *twin {
		pause = 10 * time.Millisecond
	}
	wake, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for range wake {
			c.Add(1)
		}
	}()
	for !p.Stopped() {
		ts := syscall.NsecToTimespec(int64(pause))
		_ = syscall.Nanosleep(&ts, nil)
		wake <- struct{}{}
	}
	close(wake)
	<-ended
}

// herd wakes 500 goroutines at once, ten times in a second; its twin wakes them one after the other.
func herd(p *control.Phase, c *control.Counter) {
	const members, round = 500, 100 * time.Millisecond
	work := control.LoopsFor(20 * time.Microsecond)
	var all sync.WaitGroup
	var wakes []chan struct{}
	for i := 0; i < members; i++ {
		wake := make(chan struct{}, 1)
		wakes = append(wakes, wake)
		all.Add(1)
		go func() {
			defer all.Done()
			for range wake {
				control.Loops(work)
				c.Add(1)
			}
		}()
	}
	for !p.Stopped() {
		for _, wake := range wakes {
			wake <- struct{}{}
			if *twin {
				time.Sleep(round / members)
			}
		}
		if !*twin {
			time.Sleep(round)
		}
	}
	for _, wake := range wakes {
		close(wake)
	}
	all.Wait()
}
