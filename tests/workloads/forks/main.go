// Forks: starts child processes one after the other. One iteration is one child.
package main

import (
	"os/exec"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	control.Main(control.Workload{Name: "forks", Run: func(p *control.Phase) {
		c := control.NewCounter()
		for n := uint64(0); p.More(n); n++ {
			control.Check(exec.Command("/bin/true").Run())
			c.Add(1)
		}
	}})
}
