// Package dials waits in its init for a server that never answers.
package dials

import (
	"net"
	"os"
	"time"

	"gmpscope.test/workloads/slow_start/cause"
)

func init() {
	if !cause.Is("dials") {
		return
	}
	timeout := 60 * time.Second
	if text := os.Getenv("SLOW_START_TIMEOUT"); text != "" {
		timeout, _ = time.ParseDuration(text)
	}
	if c, err := net.DialTimeout("tcp", os.Getenv("SLOW_START_SERVER"), timeout); err == nil {
		c.SetReadDeadline(time.Now().Add(timeout))
		c.Read(make([]byte, 1))
		c.Close()
	}
}
