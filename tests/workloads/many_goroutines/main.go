// Many_goroutines: very many goroutines that wait for something that never comes, beside two that play
// ping-pong; or, with -turns, that are woken one after the other. With -locked, some of those that wait forever have a
// thread each. One iteration is one round trip.
package main

import (
	"flag"
	"runtime"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	waiting := flag.Int("waiting", 100000, "goroutines that wait")
	locked := flag.Int("locked", 0, "goroutines that wait, each locked to a thread")
	turns := flag.Bool("turns", false, "wake the waiting goroutines in turn, instead of ping-pong")
	pause := flag.Duration("pause", 100*time.Microsecond, "sleep between round trips")
	never := make(chan struct{})
	var woken []chan struct{}
	done := make(chan struct{})
	control.Main(control.Workload{
		Name: "many_goroutines",
		Setup: func() map[string]interface{} {
			for i := 0; i < *waiting; i++ {
				if *turns {
					woken = append(woken, make(chan struct{}))
					go answer(woken[i], done)
				} else {
					go wait(never)
				}
			}
			for i := 0; i < *locked; i++ {
				go func() {
					runtime.LockOSThread()
					done <- struct{}{}
					<-never
				}()
				<-done
			}
			return map[string]interface{}{"waiting": *waiting, "locked": *locked}
		},
		Run: func(p *control.Phase) {
			if *turns {
				c := control.NewCounter()
				for n := uint64(0); p.More(n); n++ {
					woken[n%uint64(len(woken))] <- struct{}{}
					<-done
					c.Add(1)
					if *pause > 0 {
						time.Sleep(*pause)
					}
				}
				return
			}
			there, back := make(chan struct{}), make(chan struct{})
			go func() {
				for range there {
					back <- struct{}{}
				}
				close(back)
			}()
			c := control.NewCounter()
			for n := uint64(0); p.More(n); n++ {
				there <- struct{}{}
				<-back
				c.Add(1)
				if *pause > 0 {
					time.Sleep(*pause)
				}
			}
			close(there)
			<-back
		},
	})
}

func wait(never <-chan struct{}) { <-never }

func answer(woken <-chan struct{}, done chan<- struct{}) {
	for range woken {
		done <- struct{}{}
	}
}
