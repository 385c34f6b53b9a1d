// Shop: a service and its clients, for the stories of docs/stories.md.
//
//	shop serve [-collect]  a net/http server: each order takes CPU time, and a collector counts what was sold
//	shop load URL          clients that order from it, and at the end print what they saw as JSON
//
// With -collect the collector computes all of its series each time, in a goroutine for each, which have the Ps
// meanwhile. Without it, it reads a count that is kept. The server's address is in "extra" of every event and, without
// -control, the first line of its output. One iteration is one order.
package main

import (
	"fmt"
	"os"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
		// What follows is parsed as flags.
		os.Args = append(os.Args[:1], os.Args[2:]...)
	}
	switch mode {
	case "serve":
		serve()
	case "load":
		load()
	default:
		control.Check(fmt.Errorf("neither `shop serve` nor `shop load URL`: %q", mode))
	}
}
