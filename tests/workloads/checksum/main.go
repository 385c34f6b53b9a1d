// Checksum: a pipeline of goroutines hashes numbers, and each block is compared with the same hash made without
// goroutines. A block that differs ends the program with an error: an observer must not change what it
// computes. One iteration is one correct block.
package main

import (
	"flag"
	"time"

	"gmpscope.test/workloads/internal/checksum"
	"gmpscope.test/workloads/internal/control"
)

func main() {
	numbers := flag.Uint64("numbers", 64, "in each block")
	pause := flag.Duration("pause", time.Millisecond, "after each block")
	control.Main(control.Workload{Name: "checksum", Run: func(p *control.Phase) {
		c := control.NewCounter()
		var sum uint64
		var err error
		for n := uint64(0); p.More(n); n++ {
			sum, err = checksum.Block(sum, n**numbers, *numbers)
			control.Check(err)
			c.Add(1)
			time.Sleep(*pause)
		}
	}})
}
