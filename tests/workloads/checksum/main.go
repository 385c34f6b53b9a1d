// Checksum: a pipeline of goroutines hashes numbers, and each block is compared with the same hash made without
// goroutines. A block that differs ends the program with an error: whoever looks on must not change what it
// computes. One iteration is one block that was right.
package main

import (
	"flag"
	"fmt"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// FNV-1a, 64 bits.
const (
	offset = 14695981039346656037
	prime  = 1099511628211
)

func hash(h, n uint64) uint64 {
	for i := 0; i < 8; i++ {
		h = (h ^ (n & 0xff)) * prime
		n >>= 8
	}
	return h
}

func main() {
	numbers := flag.Uint64("numbers", 64, "in each block")
	pause := flag.Duration("pause", time.Millisecond, "after each block")
	control.Main(control.Workload{Name: "checksum", Run: func(p *control.Phase) {
		c := control.NewCounter()
		var sum uint64
		for n := uint64(0); p.More(n); n++ {
			first := n * *numbers
			source, hashed := make(chan uint64), make(chan uint64)
			go func() {
				for i := first; i < first+*numbers; i++ {
					source <- i
				}
				close(source)
			}()
			go func() {
				for i := range source {
					hashed <- hash(offset, i)
				}
				close(hashed)
			}()
			before := sum
			for h := range hashed {
				sum = hash(sum, h)
			}
			own := before
			for i := first; i < first+*numbers; i++ {
				own = hash(own, hash(offset, i))
			}
			if own != sum {
				control.Check(fmt.Errorf("block %d has the checksum %#x, not %#x", n, sum, own))
			}
			c.Add(1)
			time.Sleep(*pause)
		}
	}})
}
