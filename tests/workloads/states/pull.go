//go:build go1.23

package main

import (
	"iter"
	"runtime"
)

func init() { ways["pull"] = pull }

// pull goes through a sequence by iter.Pull: two goroutines that take turns without the scheduler.
func pull() (func(), func()) {
	numbers := func(yield func(int) bool) {
		for i := 0; i < 50; i++ {
			if !yield(i) {
				return
			}
		}
	}
	return func() {
		next, stop := iter.Pull(iter.Seq[int](numbers))
		for {
			if _, ok := next(); !ok {
				break
			}
		}
		stop()
		runtime.Gosched()
	}, nothing
}
