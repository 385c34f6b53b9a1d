// Pingpong: two goroutines pass a token back and forth over two unbuffered channels. One iteration is one round
// trip, which is two waits Runnable→Running.
package main

import "gmpscope.test/workloads/internal/control"

func main() {
	control.Main(control.Workload{Name: "pingpong", Run: func(p *control.Phase) {
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
		}
		close(there)
		<-back
	}})
}
