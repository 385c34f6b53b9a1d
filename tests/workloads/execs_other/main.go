// Execs_other: plays ping-pong for a while, then executes another program, which is not a Go program and sleeps; with
// -self it executes itself again.
package main

import (
	"flag"
	"os"
	"syscall"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	after := flag.Duration("after", 300*time.Millisecond, "how long after `go`")
	self := flag.Bool("self", false, "exec this same binary, which then runs until it is killed")
	control.Main(control.Workload{Name: "execs_other", Run: func(p *control.Phase) {
		there, back := make(chan struct{}), make(chan struct{})
		go func() {
			for range there {
				back <- struct{}{}
			}
		}()
		c := control.NewCounter()
		for end := time.Now().Add(*after); time.Now().Before(end); {
			there <- struct{}{}
			<-back
			c.Add(1)
		}
		if *self {
			exe, err := os.Executable()
			control.Check(err)
			control.Check(syscall.Exec(exe, []string{"execs_other", "-after", "600s"}, os.Environ()))
		}
		control.Check(syscall.Exec("/bin/sleep", []string{"sleep", "600"}, os.Environ()))
	}})
}
