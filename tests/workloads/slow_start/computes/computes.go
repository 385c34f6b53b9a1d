// Package computes keeps a CPU busy in its init.
package computes

import (
	"os"
	"strconv"

	"gmpscope.test/workloads/slow_start/cause"
)

// Sum keeps the compiler from removing the loop.
var Sum uint64

func init() {
	if !cause.Is("computes") {
		return
	}
	rounds, _ := strconv.Atoi(os.Getenv("SLOW_START_ROUNDS"))
	for i := 0; i < rounds; i++ {
		Sum = Sum*6364136223846793005 + uint64(i)
	}
}
