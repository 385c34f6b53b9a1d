package main

import (
	"flag"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"gmpscope.test/workloads/internal/control"
)

var cpu = flag.Int("cpu", 0, "locked_thread: the CPU of the locked thread")

// schedBatch is SCHED_BATCH (linux/sched.h).
const schedBatch = 3

// locked: work is handed to a goroutine that is locked to a thread. That thread has a CPU of its own, on which another
// process computes, and policy SCHED_BATCH, so that it waits for the end of that one's slice each time that it is woken;
// all other threads are elsewhere. The twin's goroutine is not locked, and runs on whatever thread there is.
//
// It needs GOMAXPROCS=1: the P is handed to the thread that is waited for, and nobody else is Runnable meanwhile.
func locked(p *control.Phase, twin bool) {
	work := make(chan struct{})
	c := control.NewCounter()
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		if !twin {
			// The thread ends with the goroutine, which never unlocks it: no other is to run there.
			runtime.LockOSThread()
			moveTo(*cpu)
		}
		for range work {
			c.Add(1)
		}
	}()
	for n := uint64(0); p.More(n); n++ {
		work <- struct{}{}
		time.Sleep(time.Millisecond)
	}
	close(work)
	all.Wait()
}

// moveTo moves this thread to a CPU, where it preempts nobody when it is woken.
func moveTo(cpu int) {
	var mask [16]uint64
	mask[cpu/64] = 1 << (cpu % 64)
	size := unsafe.Sizeof(mask)
	_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, size, uintptr(unsafe.Pointer(&mask)))
	if e != 0 {
		control.Check(e)
	}
	var priority int32
	_, _, e = syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, schedBatch, uintptr(unsafe.Pointer(&priority)))
	if e != 0 {
		control.Check(e)
	}
}
