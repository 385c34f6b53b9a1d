package control

import (
	"sync"
	"time"
)

// Spin occupies the CPU until d has passed, including time in which others have the CPU.
func Spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

var sink uint64

// Loops does n rounds of arithmetic: the same CPU time each time, however often it is interrupted.
//
//go:noinline
func Loops(n uint64) uint64 {
	x := n | 1
	for i := uint64(0); i < n; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

var calibration struct {
	sync.Once
	perMicrosecond float64
}

// LoopsFor is the number of rounds of [Loops] that take about d on this machine: by the fastest of many
// measurements, since every disturbance makes it slower.
func LoopsFor(d time.Duration) uint64 {
	calibration.Do(func() {
		const rounds = 20000
		best := time.Hour
		for i := 0; i < 50; i++ {
			t := time.Now()
			sink += Loops(rounds)
			if took := time.Since(t); took < best {
				best = took
			}
		}
		calibration.perMicrosecond = rounds / (float64(best) / float64(time.Microsecond))
	})
	return uint64(float64(d) / float64(time.Microsecond) * calibration.perMicrosecond)
}
