// States: one way of changing a goroutine's state, chosen by -do, for the comparison of transitions with
// runtime/trace. One iteration is one step of any of its goroutines.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"gmpscope.test/workloads/internal/control"
)

// ways are the values of -do; each returns a step, and a function that ends what it began.
var ways = map[string]func() (step, cleanup func()){
	"syscalls": syscalls,
	"blocking": blocking,
	"timers":   timers,
	"mutex":    mutex,
	"churn":    churn,
	"locked":   locked,
	"gc":       gc,
	"http":     web,
	"procs":    procs,
}

func main() {
	do := flag.String("do", "timers", "what to do: "+strings.Join(names(), ", "))
	actors := flag.Int("actors", 4, "goroutines that do it")
	pause := flag.Duration("pause", 0, "sleep between the steps of each")
	control.Main(control.Workload{Name: "states", Run: func(p *control.Phase) {
		way, ok := ways[*do]
		if !ok {
			control.Check(fmt.Errorf("-do %s: it is one of %s", *do, strings.Join(names(), ", ")))
		}
		var all sync.WaitGroup
		for _, c := range control.NewCounters(*actors) {
			step, cleanup := way()
			all.Add(1)
			go func(c *control.Counter) {
				defer all.Done()
				for !p.Stopped() {
					step()
					c.Add(1)
					if *pause > 0 {
						time.Sleep(*pause)
					}
				}
				cleanup()
			}(c)
		}
		all.Wait()
	}})
}

func names() []string {
	var all []string
	for name := range ways {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}

func nothing() {}

// syscalls makes system calls that return at once.
func syscalls() (func(), func()) {
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	control.Check(err)
	fd := int(null.Fd())
	return func() {
		for i := 0; i < 20; i++ {
			_, _ = syscall.Write(fd, []byte("x"))
		}
		runtime.Gosched()
	}, func() { _ = null.Close() }
}

// blocking makes system calls that block, during which the P is taken away.
func blocking() (func(), func()) {
	return func() {
		ts := syscall.NsecToTimespec(int64(200 * time.Microsecond))
		_ = syscall.Nanosleep(&ts, nil)
		control.Spin(20 * time.Microsecond)
	}, nothing
}

func timers() (func(), func()) {
	return func() {
		time.Sleep(50 * time.Microsecond)
		t := time.NewTimer(100 * time.Microsecond)
		select {
		case <-t.C:
		case <-time.After(20 * time.Microsecond):
		}
		t.Stop()
	}, nothing
}

var shared struct {
	sync.Mutex
	n uint64
}

func mutex() (func(), func()) {
	return func() {
		shared.Lock()
		shared.n++
		runtime.Gosched()
		shared.Unlock()
		control.Spin(time.Microsecond)
	}, nothing
}

func churn() (func(), func()) {
	return func() {
		var all sync.WaitGroup
		for i := 0; i < 10; i++ {
			all.Add(1)
			go func() {
				runtime.Gosched()
				all.Done()
			}()
		}
		all.Wait()
	}, nothing
}

// locked goroutines hand their thread over at every switch.
func locked() (func(), func()) {
	c, ok := make(chan int), make(chan int)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for v := range c {
			ok <- v
		}
		close(ok)
	}()
	return func() {
		c <- 1
		<-ok
	}, func() { close(c) }
}

var keep [64][]byte

// gc forces collections while goroutines make garbage and grow their stacks.
func gc() (func(), func()) {
	n := 0
	return func() {
		keep[n%len(keep)] = make([]byte, 10000)
		n++
		grow(100)
		if n%50 == 0 {
			runtime.GC()
		}
	}, nothing
}

//go:noinline
func grow(n int) int {
	var a [64]int
	if n == 0 {
		return a[3]
	}
	a[n%64] = n
	return grow(n-1) + a[n%64]
}

// web is a server and its client.
func web() (func(), func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	control.Check(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello\n")
	})}
	go func() { _ = server.Serve(l) }()
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	url := "http://" + l.Addr().String() + "/"
	return func() {
			answer, err := client.Get(url)
			control.Check(err)
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}, func() {
			transport.CloseIdleConnections()
			_ = server.Close()
		}
}

// procs changes GOMAXPROCS back and forth.
func procs() (func(), func()) {
	n := 0
	return func() {
		n++
		if n%20 == 0 {
			runtime.GOMAXPROCS(1 + n/20%3)
		}
		c := make(chan int)
		go func() { c <- 1 }()
		<-c
	}, nothing
}
