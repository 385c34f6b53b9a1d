// Cgo: calls into C, and C calls back into Go from threads of its own. One iteration is one call.
package main

/*
#include <pthread.h>
#include <unistd.h>

extern void calledBack(void);

static void *thread(void *unused) {
	calledBack();
	return unused;
}

static void callFromThread(void) {
	pthread_t t;
	if (pthread_create(&t, 0, thread, 0) == 0)
		pthread_join(t, 0);
}

static void work(int microseconds) {
	usleep(microseconds);
}
*/
import "C"

import (
	"flag"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

var back = make(chan struct{}, 1)

//export calledBack
func calledBack() { back <- struct{}{} }

func main() {
	pause := flag.Duration("pause", 500*time.Microsecond, "sleep between calls")
	control.Main(control.Workload{Name: "cgo", Run: func(p *control.Phase) {
		var all sync.WaitGroup
		counters := control.NewCounters(4)
		for i, c := range counters {
			all.Add(1)
			go func(i int, c *control.Counter) {
				defer all.Done()
				for !p.Stopped() {
					if i == 0 {
						C.callFromThread()
						<-back
					} else {
						C.work(100)
					}
					c.Add(1)
					time.Sleep(*pause)
				}
			}(i, c)
		}
		all.Wait()
	}})
}
