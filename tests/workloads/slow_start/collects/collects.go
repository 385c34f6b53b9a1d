// Package collects starts a goroutine in its init, waits for it, and collects garbage; it prints when it begins and when
// it has finished.
package collects

import (
	"fmt"
	"os"
	"runtime"

	"gmpscope.test/workloads/internal/control"
	"gmpscope.test/workloads/slow_start/cause"
)

func init() {
	if !cause.Is("collects") {
		return
	}
	begun := control.Monotonic()
	done := make(chan int)
	go func() { done <- 1 }()
	<-done
	started := control.Monotonic()
	runtime.GC()
	ended := control.Monotonic()
	fmt.Printf("begun %d %d\nstarted %d %d\ncollected %d %d\n", os.Getpid(), begun, os.Getpid(), started, os.Getpid(), ended)
}
