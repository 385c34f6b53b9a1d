package main

import (
	"syscall"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// inSyscalls: a crowd is released by a goroutine that then makes blocking system calls, one after the other, with the only
// P (GOMAXPROCS=1). sysmon takes a P from a system call that it has seen at two of its rounds in succession. These are
// 20 µs apart, which the kernel makes some 70, until it has had nothing to do for 50 rounds; then they become longer, up to
// 10 ms. So calls of about 55 µs, which is what the shortest sleep takes, are never seen twice, and once sysmon comes
// round rarely longer ones are not either. They are used then, since hardly any of their time is on a CPU. If a P was
// taken away after all, sysmon is quick again, and the calls are short again.
//
// The twin sleeps without a system call (time.Sleep), and so gives its P away.
func inSyscalls(p *control.Phase, twin bool) {
	const (
		calls = 10
		short = time.Nanosecond
		long  = 300 * time.Microsecond
		quiet = 100 // Rounds of short calls, after which sysmon comes round rarely.
	)
	crowd := newCrowd()
	c := control.NewCounter()
	calm := 0
	for n := uint64(0); p.More(n); n++ {
		crowd.release()
		if twin {
			time.Sleep(calls * long)
		} else {
			pause := short
			if calm > quiet {
				pause = long
			}
			for i := 0; i < calls; i++ {
				ts := syscall.NsecToTimespec(int64(pause))
				_ = syscall.Nanosleep(&ts, nil)
			}
			calm++
			if crowd.someRan() {
				calm = 0
			}
		}
		crowd.await()
		c.Add(1)
	}
	crowd.end()
}
