// Schedchanges reads a file written by runtime/trace and prints every change of a goroutine's state in
// [-from, -to], one per line: time (CLOCK_MONOTONIC, ns), goid, old state, new state, the thread that wrote it, whether
// that had a P (0 or 1), reason.
//
// It is compiled like schedwaits; see there for the clock.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"internal/trace"
	"io"
	"math"
	"os"
	"strings"
)

func main() {
	from := flag.Int64("from", 0, "CLOCK_MONOTONIC, ns")
	to := flag.Int64("to", math.MaxInt64, "CLOCK_MONOTONIC, ns")
	flag.Parse()
	if flag.NArg() != 1 {
		fatal(fmt.Errorf("usage: schedchanges [-from ns] [-to ns] FILE"))
	}
	f, err := os.Open(flag.Arg(0))
	fatal(err)
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	fatal(read(bufio.NewReaderSize(f, 1<<20), out, *from, *to))
	fatal(out.Flush())
}

func read(in io.Reader, out io.Writer, from, to int64) error {
	r, err := trace.NewReader(in)
	if err != nil {
		return err
	}
	for {
		ev, err := r.ReadEvent()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		at := int64(ev.Time())
		if ev.Kind() != trace.EventStateTransition || at < from || at > to {
			continue
		}
		t := ev.StateTransition()
		if t.Resource.Kind != trace.ResourceGoroutine {
			continue
		}
		old, new := t.Goroutine()
		if old == new {
			continue
		}
		hasP := 0
		if ev.Proc() != trace.NoProc {
			hasP = 1
		}
		reason := strings.ReplaceAll(t.Reason, " ", "_")
		fmt.Fprintln(out, at, t.Resource.Goroutine(), name(old), name(new), ev.Thread(), hasP, reason)
	}
}

// name returns gmpscope's name of a state.
func name(s trace.GoState) string {
	switch s {
	case trace.GoNotExist:
		return "dead"
	case trace.GoRunnable:
		return "runnable"
	case trace.GoRunning:
		return "running"
	case trace.GoWaiting:
		return "waiting"
	case trace.GoSyscall:
		return "syscall"
	default:
		return "unknown"
	}
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "schedchanges:", err)
		os.Exit(1)
	}
}
