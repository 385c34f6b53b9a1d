// Blocked: goroutines that each block at a place of their own, over and over, for the comparison with what the
// runtime itself reports: when a phase ends they all block there once more, and the output of runtime.Stack is
// written to the file of -stacks. One iteration is one round of all.
package main

import (
	"flag"
	"os"
	"runtime"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

var sink int

// The compiler inlines these two: the line that blocks is in the first.
func receive(c chan int) int { return <-c + sink }
func listen(c chan int) int  { sink++; return receive(c) }

type lock struct{ sync.Mutex }

func (l *lock) hold() {
	l.Lock()
	sink++
	l.Unlock()
}

type holder interface{ hold() }

// The compiler makes a method hold of it.
type outer struct{ *lock }

func choose(c, d chan int) {
	select {
	case <-c:
	case <-d:
	}
}

//go:noinline
func deep(n int, c chan int) int {
	if n == 0 {
		return listen(c)
	}
	return deep(n-1, c) + 1
}

// In assembly: it calls parks.
func lost()

var unchained = make(chan int)

//go:noinline
func parks() { sink += <-unchained }

func sleep(done chan bool) {
	for {
		time.Sleep(500 * time.Microsecond)
		select {
		case <-done:
			// Long enough that it still sleeps when the stacks are read.
			time.Sleep(time.Hour)
		default:
		}
	}
}

func main() {
	stacks := flag.String("stacks", "", "file for the stacks at the end of a phase")
	control.Main(control.Workload{Name: "blocked", Run: func(p *control.Phase) {
		c := control.NewCounter()
		inlined, selected, deepened, sent := make(chan int), make(chan int), make(chan int), make(chan int)
		var locked lock
		var held holder = outer{&locked}
		var waited sync.WaitGroup
		cond := sync.NewCond(&sync.Mutex{})
		done := make(chan bool)
		locked.Lock()
		waited.Add(1)
		go func() {
			for {
				listen(inlined)
			}
		}()
		go func() {
			for {
				choose(selected, nil)
			}
		}()
		go func() {
			for {
				deep(6, deepened)
			}
		}()
		go func() {
			for {
				deep(60, deepened)
			}
		}()
		go func() {
			for {
				sent <- 1
			}
		}()
		go func() {
			for {
				held.hold()
			}
		}()
		go func() {
			cond.L.Lock()
			for {
				cond.Wait()
			}
		}()
		go func() {
			waited.Wait()
		}()
		go func() {
			for {
				lost()
			}
		}()
		go sleep(done)
		for !p.Stopped() {
			inlined <- 1
			selected <- 1
			deepened <- 1
			deepened <- 1
			unchained <- 1
			<-sent
			locked.Unlock()
			time.Sleep(100 * time.Microsecond)
			locked.Lock()
			cond.Broadcast()
			c.Add(1)
			time.Sleep(200 * time.Microsecond)
		}
		close(done)
		time.Sleep(20 * time.Millisecond)
		if *stacks != "" {
			text := make([]byte, 1<<20)
			control.Check(os.WriteFile(*stacks, text[:runtime.Stack(text, true)], 0o644))
		}
	}})
}
