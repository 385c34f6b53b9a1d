// Burst: very many goroutines that live at the same time and all end, beside a few that wait for something that never
// comes. One iteration is one burst. After it nearly all gs that the runtime has ever made are dead.
package main

import (
	"flag"
	"sync"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	living := flag.Int("living", 6, "goroutines that wait")
	size := flag.Int("size", 60000, "goroutines of a burst")
	never := make(chan struct{})
	control.Main(control.Workload{
		Name:             "burst",
		CountsGoroutines: true,
		Setup: func() map[string]interface{} {
			for i := 0; i < *living; i++ {
				go wait(never)
			}
			return map[string]interface{}{"living": *living, "size": *size}
		},
		Run: func(p *control.Phase) {
			c := control.NewCounter()
			for n := uint64(0); p.More(n); n++ {
				burst(*size)
				c.Add(1)
			}
		},
	})
}

func wait(never <-chan struct{}) { <-never }

// burst returns when all of its goroutines are about to end.
func burst(size int) {
	var living, ended sync.WaitGroup
	living.Add(size)
	ended.Add(size)
	gate := make(chan struct{})
	for i := 0; i < size; i++ {
		go func() {
			living.Done()
			<-gate
			ended.Done()
		}()
	}
	living.Wait()
	close(gate)
	ended.Wait()
}
