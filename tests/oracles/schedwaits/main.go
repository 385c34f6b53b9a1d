// Schedwaits reads a file written by runtime/trace and prints, as one JSON object, every wait
// Runnable→Running in it that ended in [-from, -to].
//
// It imports internal/trace, so it is compiled inside GOROOT by `go build -overlay`. A reader of Go 1.27
// takes the files of Go 1.22 and later. Times are CLOCK_MONOTONIC in nanoseconds: since Go 1.22 the
// runtime writes nanotime()/64 on Linux (src/runtime/trace.go, traceClockNow), so a time is right to 64 ns.
//
// Left out, and counted under "excluded":
//
//	syscall     a return from a system call that got a P at once is written as Runnable for up to three
//	            ticks of the clock (EvGoSyscallEndBlocked, EvGoStart); the goroutine is never Grunnable
//	switch      EvGoSwitch (coroutines) is shown by the reader as Runnable for 1 ns; likewise never Grunnable
//	straddling  Runnable when the recording began: for how long is not known
//	outside     ended outside the window
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"internal/trace"
	"io"
	"math"
	"os"
	"sort"
)

// wait is [goid, runnable_at, running_at, cause].
type wait [4]any

type result struct {
	Count    int            `json:"count"`
	P50      int64          `json:"p50_ns"`
	P90      int64          `json:"p90_ns"`
	P99      int64          `json:"p99_ns"`
	ByCause  map[string]int `json:"by_cause"`
	Excluded map[string]int `json:"excluded"`
	// Latencies are ascending.
	Latencies []int64 `json:"latencies_ns"`
	// Those of them that may not have been waits; see syscallAmbiguous.
	Ambiguous []int64 `json:"ambiguous_ns"`
	// Waits are in the order of their ends.
	Waits []wait `json:"waits,omitempty"`
	// First and Last are the times of the first and last event of the file.
	First int64 `json:"first_ns"`
	Last  int64 `json:"last_ns"`
}

// Clock ticks of 64 ns for which the end of a system call may be Runnable in the file only.
const syscallArtefact = 3 * 64

// A system call's end that gets a P at once goes through the system stack and a lock first, and then takes a
// few microseconds: in this range it looks in the file like one that had to wait. One that really had to wait
// went through the global run queue, mostly for longer.
const syscallAmbiguous = 5000

type pending struct {
	at    int64
	cause string
}

func main() {
	from := flag.Int64("from", 0, "CLOCK_MONOTONIC, ns")
	to := flag.Int64("to", math.MaxInt64, "CLOCK_MONOTONIC, ns")
	list := flag.Bool("list", false, "list every wait")
	flag.Parse()
	if flag.NArg() != 1 {
		fatal(fmt.Errorf("usage: schedwaits [-from ns] [-to ns] [-list] FILE"))
	}
	f, err := os.Open(flag.Arg(0))
	fatal(err)
	res, err := read(bufio.NewReaderSize(f, 1<<20), *from, *to, *list)
	fatal(err)
	out := bufio.NewWriter(os.Stdout)
	fatal(json.NewEncoder(out).Encode(res))
	fatal(out.Flush())
}

func read(in io.Reader, from, to int64, list bool) (*result, error) {
	r, err := trace.NewReader(in)
	if err != nil {
		return nil, err
	}
	res := &result{ByCause: map[string]int{}, Excluded: map[string]int{}, Latencies: []int64{}, Ambiguous: []int64{}}
	runnable := map[trace.GoID]pending{}
	for {
		ev, err := r.ReadEvent()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		at := int64(ev.Time())
		if res.First == 0 {
			res.First = at
		}
		res.Last = at
		if ev.Kind() != trace.EventStateTransition {
			continue
		}
		t := ev.StateTransition()
		if t.Resource.Kind != trace.ResourceGoroutine {
			continue
		}
		id := t.Resource.Goroutine()
		old, new := t.Goroutine()
		if new == trace.GoRunnable && old != trace.GoRunnable {
			runnable[id] = pending{at, cause(old, t.Reason)}
			continue
		}
		if old != trace.GoRunnable || new != trace.GoRunning {
			continue
		}
		p := runnable[id]
		delete(runnable, id)
		latency := at - p.at
		switch {
		case p.cause == "" || p.cause == "status":
			res.Excluded["straddling"]++
		case p.cause == "syscall" && latency <= syscallArtefact:
			res.Excluded["syscall"]++
		case latency <= 1:
			res.Excluded["switch"]++
		case at < from || at > to:
			res.Excluded["outside"]++
		default:
			if p.cause == "syscall" && latency <= syscallAmbiguous {
				res.Ambiguous = append(res.Ambiguous, latency)
			}
			res.ByCause[p.cause]++
			res.Latencies = append(res.Latencies, latency)
			if list {
				res.Waits = append(res.Waits, wait{id, p.at, at, p.cause})
			}
		}
	}
	sort.Slice(res.Latencies, func(i, j int) bool { return res.Latencies[i] < res.Latencies[j] })
	res.Count = len(res.Latencies)
	res.P50, res.P90, res.P99 = res.quantile(0.50), res.quantile(0.90), res.quantile(0.99)
	return res, nil
}

// cause returns how a goroutine became runnable, as named in a capture's by_origin.
func cause(old trace.GoState, reason string) string {
	switch old {
	case trace.GoNotExist:
		return "created"
	case trace.GoWaiting:
		return "unblocked"
	case trace.GoSyscall:
		return "syscall"
	case trace.GoRunning:
		if reason == "preempted" {
			return "preempted"
		}
		return "yielded"
	default:
		return "status"
	}
}

// quantile is the smallest latency that at least the share q of all do not exceed; 0 where there are none.
func (r *result) quantile(q float64) int64 {
	if r.Count == 0 {
		return 0
	}
	i := int(math.Ceil(q*float64(r.Count))) - 1
	return r.Latencies[max(i, 0)]
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "schedwaits:", err)
		os.Exit(1)
	}
}
