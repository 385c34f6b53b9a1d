// Hostile: gives itself a name that would forge a line and turn a terminal red, and makes goroutines in a function
// whose name, as that of this file, a test overwrites in the binary. With HOSTILE_QUICK set it ends by itself.
package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"gmpscope.test/workloads/internal/control"
)

const prSetName = 15

func init() {
	// On the main thread, whose name is the process's.
	name := []byte("a\nFORGED\x1b[31m\x00")
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(&name[0])), 0)
}

//go:noinline
func nameThatATestOverwrites0123456789(there, back chan int) {
	go func() {
		for n := range there {
			back <- n
		}
		close(back)
	}()
}

// rounds plays ping-pong n times.
func rounds(n int) {
	there, back := make(chan int), make(chan int)
	nameThatATestOverwrites0123456789(there, back)
	for i := 0; i < n; i++ {
		there <- i
		<-back
	}
	close(there)
	<-back
}

func main() {
	if os.Getenv("HOSTILE_QUICK") != "" {
		rounds(100)
		return
	}
	control.Main(control.Workload{Name: "hostile", Run: func(p *control.Phase) {
		c := control.NewCounter()
		for n := uint64(0); p.More(n); n += 10 {
			rounds(10)
			c.Add(10)
			// Slow enough that probing it stays within any budget.
			time.Sleep(200 * time.Microsecond)
		}
	}})
}
