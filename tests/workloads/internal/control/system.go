package control

import (
	"syscall"
	"time"
	"unsafe"
)

// Clocks of clock_gettime(2).
const (
	clockMonotonic      = 1
	clockProcessCPUTime = 2
)

// rawRead is read(2) without entersyscall: the goroutine stays Running and keeps its P, whatever it takes.
func rawRead(fd int, b []byte) int {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if e != syscall.EINTR {
			return int(n)
		}
	}
}

// plainRead is read(2) as every Go program does it.
func plainRead(fd int, b []byte) int {
	for {
		n, err := syscall.Read(fd, b)
		if err != syscall.EINTR {
			return n
		}
	}
}

// rawWrite is write(2) without entersyscall.
func rawWrite(fd int, b []byte) int {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if e != syscall.EINTR {
			return int(n)
		}
	}
}

// rawSleep is nanosleep(2) without entersyscall; a signal cuts it short.
func rawSleep(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_, _, _ = syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

func clock(id uintptr) int64 {
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// Monotonic is CLOCK_MONOTONIC in nanoseconds.
func Monotonic() int64 { return clock(clockMonotonic) }

// cpuTime is the CPU time of this process in nanoseconds.
func cpuTime() int64 { return clock(clockProcessCPUTime) }
