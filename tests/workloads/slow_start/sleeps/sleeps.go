// Package sleeps sleeps in its init.
package sleeps

import (
	"time"

	"gmpscope.test/workloads/slow_start/cause"
)

func init() {
	if cause.Is("sleeps") {
		time.Sleep(25 * time.Millisecond)
	}
}
