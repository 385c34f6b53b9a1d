// Idle: a program that waits for something that never comes.
package main

import "gmpscope.test/workloads/internal/control"

func main() {
	control.Main(control.Workload{Name: "idle", Run: func(p *control.Phase) { <-p.Done() }})
}
