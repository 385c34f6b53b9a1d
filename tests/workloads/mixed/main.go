// Mixed: a little of every way in which a goroutine becomes runnable: channels, mutexes, timers, network
// poller, system calls that block and that do not, Gosched, new goroutines, stack growth, garbage. One
// iteration is one step of any of its goroutines.
package main

import (
	"flag"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	pause := flag.Duration("pause", 300*time.Microsecond, "sleep between the steps of each goroutine")
	control.Main(control.Workload{Name: "mixed", Run: func(p *control.Phase) {
		var all sync.WaitGroup
		actors := []func() (step, cleanup func()){channels, mutexes, timers, sockets, pipes, syscalls, blocking, yields, spawns, stacks, garbage}
		counters := control.NewCounters(2 * len(actors))
		for i, c := range counters {
			step, cleanup := actors[i%len(actors)]()
			all.Add(1)
			go func(c *control.Counter) {
				defer all.Done()
				for !p.Stopped() {
					step()
					c.Add(1)
					time.Sleep(*pause)
				}
				cleanup()
			}(c)
		}
		all.Wait()
	}})
}

func nothing() {}

func channels() (func(), func()) {
	c, ok := make(chan int), make(chan int, 1)
	go func() {
		for v := range c {
			ok <- v
		}
	}()
	return func() {
		for i := 0; i < 10; i++ {
			c <- i
			<-ok
		}
	}, func() { close(c) }
}

var shared struct {
	sync.Mutex
	n uint64
}

func mutexes() (func(), func()) {
	return func() {
		var all sync.WaitGroup
		for i := 0; i < 4; i++ {
			all.Add(1)
			go func() {
				defer all.Done()
				for j := 0; j < 5; j++ {
					shared.Lock()
					shared.n++
					runtime.Gosched()
					shared.Unlock()
				}
			}()
		}
		all.Wait()
	}, nothing
}

func timers() (func(), func()) {
	return func() {
		select {
		case <-time.After(50 * time.Microsecond):
		case <-time.After(time.Second):
		}
	}, nothing
}

func sockets() (func(), func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	control.Check(err)
	go func() {
		c, err := l.Accept()
		control.Check(err)
		_ = l.Close()
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	control.Check(err)
	buf := make([]byte, 16)
	return func() {
		_, err := c.Write(buf)
		control.Check(err)
		_, err = io.ReadFull(c, buf)
		control.Check(err)
	}, func() { _ = c.Close() }
}

func pipes() (func(), func()) {
	r, w, err := os.Pipe()
	control.Check(err)
	buf := make([]byte, 1)
	return func() {
		go func() { _, _ = w.Write([]byte{1}) }()
		_, err := r.Read(buf)
		control.Check(err)
	}, func() { _, _ = r.Close(), w.Close() }
}

func syscalls() (func(), func()) {
	return func() {
		for i := 0; i < 20; i++ {
			_, _ = syscall.Getpgid(0)
		}
	}, nothing
}

func blocking() (func(), func()) {
	ts := syscall.NsecToTimespec(int64(200 * time.Microsecond))
	return func() { _ = syscall.Nanosleep(&ts, nil) }, nothing
}

func yields() (func(), func()) {
	return func() {
		for i := 0; i < 10; i++ {
			runtime.Gosched()
		}
	}, nothing
}

func spawns() (func(), func()) {
	return func() {
		var all sync.WaitGroup
		for i := 0; i < 10; i++ {
			all.Add(1)
			go all.Done()
		}
		all.Wait()
	}, nothing
}

//go:noinline
func deep(n int) int {
	var pad [128]byte
	pad[n%128] = 1
	if n == 0 {
		return int(pad[0])
	}
	return deep(n-1) + int(pad[n%128])
}

func stacks() (func(), func()) {
	return func() {
		done := make(chan int)
		go func() { done <- deep(100) }()
		<-done
	}, nothing
}

var garbageSink []byte

func garbage() (func(), func()) {
	return func() { garbageSink = make([]byte, 64<<10) }, nothing
}
