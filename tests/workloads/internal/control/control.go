// Package control gives every workload the same handles: a line protocol on stdin and stdout by which a
// test lets the program run, parks it, and reads what the runtime itself says about its scheduling.
//
// A workload that is parked executes no goroutine at all: the workload's own ones have ended or wait, the
// garbage collector is off, and the goroutine that serves the protocol sits in a read(2) that
// the runtime does not know of (no entersyscall, so no status change before or after it). What the runtime
// recorded up to a park is therefore what any observer reads until the next `go`.
//
// Commands, one per line; each is answered by one line of JSON with an "event" and the fields of [reading]:
//
//	go [N]            run (N iterations, then park by itself)    running, and for `go N` later parked
//	park              stop and quiesce                           parked
//	count             iterations and CPU time so far             count
//	trace start FILE  record runtime/trace of this process       as for the state it is in
//	trace stop        end the recording                          as for the state it is in
//	exit              end with status 0                          (none)
//
// End of input ends the program, so that nothing outlives a test that died. Without -control it runs until
// it is killed, or for the time of -for.
package control

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Workload is one program: its name and what it does while it is running.
type Workload struct {
	// Name is printed in every event.
	Name string
	// Setup runs once, after the flags are parsed and before the first event. What it returns is added to
	// every event under "extra".
	Setup func() map[string]interface{}
	// CountsGoroutines adds the runtime's own count of goroutines (/sched/goroutines:goroutines) to every event. From
	// Go 1.26 on reading it disturbs goroutines in system calls for a moment.
	CountsGoroutines bool
	// CountsStops adds the runtime's own histogram of stops of the world that are not the collector's
	// (/sched/pauses/total/other:seconds) to every event, where the runtime has it (Go 1.22).
	CountsStops bool
	// Run does the work until the phase is stopped or its limit is reached. When it returns, all
	// goroutines that it started have ended or wait.
	Run func(*Phase)
}

var (
	controlled = flag.Bool("control", false, "serve the line protocol on stdin and stdout, begin parked")
	runFor     = flag.Duration("for", 0, "without -control: how long to run (0: until killed)")
	cpuProfile = flag.String("cpuprofile", "", "without -control: write a CPU profile to this file")
)

// Main runs a workload and does not return.
func Main(w Workload) {
	flag.Parse()
	var extra map[string]interface{}
	if w.Setup != nil {
		extra = w.Setup()
	}
	if !*controlled {
		free(w)
		os.Exit(0)
	}
	s := &server{workload: w, reading: newReading(w, extra)}
	s.emit(s.quiesce("parked"))
	for {
		s.serve(s.nextLine())
	}
}

// free runs the workload without the protocol.
func free(w Workload) {
	if *cpuProfile != "" {
		f, err := os.Create(*cpuProfile)
		fatal(err)
		fatal(pprof.StartCPUProfile(f))
		defer f.Close()
		defer pprof.StopCPUProfile()
	}
	p := newPhase(0)
	if *runFor > 0 {
		time.AfterFunc(*runFor, p.stop)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-interrupted
		p.stop()
	}()
	w.Run(p)
}

// server is the state of the protocol.
type server struct {
	workload Workload
	reading  *reading
	phase    *Phase
	pending  []byte
	traceTo  *os.File
	ended    chan struct{}
}

// nextLine waits for a command. While parked it does so behind the runtime's back (see the package's
// comment), unless a trace is being recorded: the tracer needs every P to answer it now and then.
func (s *server) nextLine() string {
	for {
		if i := bytes.IndexByte(s.pending, '\n'); i >= 0 {
			line := string(s.pending[:i])
			s.pending = append(s.pending[:0], s.pending[i+1:]...)
			return line
		}
		var buf [512]byte
		var n int
		if s.phase == nil && s.traceTo == nil {
			n = rawRead(0, buf[:])
		} else {
			n = plainRead(0, buf[:])
		}
		if n <= 0 {
			os.Exit(0)
		}
		s.pending = append(s.pending, buf[:n]...)
	}
}

func (s *server) serve(line string) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return
	}
	switch {
	case words[0] == "go" && s.phase == nil:
		var limit uint64
		if len(words) > 1 {
			n, err := strconv.ParseUint(words[1], 10, 64)
			fatal(err)
			limit = n
		}
		s.emit(s.reading.take("running"))
		debug.SetGCPercent(100)
		s.run(limit)
	case words[0] == "park" && s.phase != nil:
		s.phase.stop()
		<-s.ended
		s.phase = nil
		s.emit(s.quiesce("parked"))
	case words[0] == "count":
		s.emit(s.reading.take("count"))
	case words[0] == "trace" && len(words) == 3 && words[1] == "start" && s.traceTo == nil:
		f, err := os.Create(words[2])
		fatal(err)
		fatal(trace.Start(f))
		s.traceTo = f
		s.emitState()
	case words[0] == "trace" && len(words) == 2 && words[1] == "stop" && s.traceTo != nil:
		trace.Stop()
		fatal(s.traceTo.Close())
		s.traceTo = nil
		s.emitState()
	case words[0] == "exit":
		os.Exit(0)
	default:
		fatal(fmt.Errorf("%s: command %q does not fit the state (running: %v)", s.workload.Name, line, s.phase != nil))
	}
}

// run starts a phase. One with a limit is waited for here: `park` would only race with its end.
func (s *server) run(limit uint64) {
	s.phase = newPhase(limit)
	s.ended = make(chan struct{})
	go func(p *Phase, ended chan<- struct{}) {
		s.workload.Run(p)
		close(ended)
	}(s.phase, s.ended)
	if limit > 0 {
		<-s.ended
		s.phase = nil
		s.emit(s.quiesce("parked"))
	}
}

func (s *server) emitState() {
	if s.phase == nil {
		s.emit(s.quiesce("parked"))
	} else {
		s.emit(s.reading.take("running"))
	}
}

// quiesce waits until nothing but this goroutine runs, then takes a reading.
//
// The collector is off until the next `go`: a cycle that starts by itself, as one does every two minutes,
// would move the histogram. One that is under way is waited for, not forced (runtime.GC yields thousands of
// times while it sweeps, which would drown what the workload did).
func (s *server) quiesce(event string) []byte {
	debug.SetGCPercent(-1)
	quiet := 0
	for i := 0; i < 200 && quiet < 3; i++ {
		time.Sleep(5 * time.Millisecond)
		before := s.reading.total()
		rawSleep(2 * time.Millisecond)
		if s.reading.total() == before {
			quiet++
		} else {
			quiet = 0
		}
	}
	return s.reading.take(event)
}

func (s *server) emit(line []byte) {
	for len(line) > 0 {
		n := rawWrite(1, line)
		if n <= 0 {
			os.Exit(0)
		}
		line = line[n:]
	}
}

// fatal ends the program with a message if err is one.
func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Check ends the program with a message if err is one.
func Check(err error) { fatal(err) }

// Controlled says whether the line protocol is served; known once Setup runs.
func Controlled() bool { return *controlled }
