// Many_goroutines: very many goroutines that wait for something that never comes, beside two that play
// ping-pong. One iteration is one round trip.
package main

import (
	"flag"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	waiting := flag.Int("waiting", 100000, "goroutines that wait")
	pause := flag.Duration("pause", 100*time.Microsecond, "sleep between round trips")
	never := make(chan struct{})
	control.Main(control.Workload{
		Name: "many_goroutines",
		Setup: func() map[string]interface{} {
			for i := 0; i < *waiting; i++ {
				go wait(never)
			}
			return map[string]interface{}{"waiting": *waiting}
		},
		Run: func(p *control.Phase) {
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
