package control

import (
	"encoding/json"
	"math"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
)

// reading is what an event carries:
//
//	workload, pid, go, gomaxprocs, goroutines, iterations
//	sched_goroutines  /sched/goroutines:goroutines, where [Workload.CountsGoroutines]
//	at_ns      CLOCK_MONOTONIC
//	cpu_ns     CPU time of the process
//	latencies  the runtime's own /sched/latencies:seconds: the non-empty buckets as [low, high, count] in
//	           nanoseconds, values in [low, high); -1 stands for the infinite bound at either end
//	stops      /sched/pauses/total/other:seconds, likewise, where [Workload.CountsStops]
//	extra      what the workload's Setup returned
//	bounds_ns  the bounds of all buckets of that histogram, in the first event alone
//
// The histogram is read first and the line is made without a system call that the runtime sees.
type reading struct {
	sample [1]metrics.Sample
	// living is read if it has a name.
	living [1]metrics.Sample
	// stops is read if it has a name.
	stops [1]metrics.Sample
	head  []byte
	tail  []byte
	line  []byte
	// bounds is empty once it has been printed.
	bounds []byte
}

func newReading(w Workload, extra map[string]interface{}) *reading {
	r := new(reading)
	r.sample[0].Name = "/sched/latencies:seconds"
	metrics.Read(r.sample[:])
	if w.CountsGoroutines {
		r.living[0].Name = "/sched/goroutines:goroutines"
		metrics.Read(r.living[:])
	}
	if w.CountsStops {
		r.stops[0].Name = "/sched/pauses/total/other:seconds"
		metrics.Read(r.stops[:])
		if r.stops[0].Value.Kind() == metrics.KindBad {
			r.stops[0].Name = ""
		}
	}
	head, err := json.Marshal(map[string]interface{}{"workload": w.Name, "pid": os.Getpid(), "go": runtime.Version()})
	fatal(err)
	r.head = head[1 : len(head)-1]
	if extra == nil {
		extra = map[string]interface{}{}
	}
	r.tail, err = json.Marshal(extra)
	fatal(err)
	r.line = make([]byte, 0, 64<<10)
	bounds := []int64{}
	for _, b := range r.sample[0].Value.Float64Histogram().Buckets {
		bounds = append(bounds, bound(b))
	}
	r.bounds, err = json.Marshal(bounds)
	fatal(err)
	return r
}

// total is the number of entries in the histogram.
func (r *reading) total() uint64 {
	metrics.Read(r.sample[:])
	var n uint64
	for _, c := range r.sample[0].Value.Float64Histogram().Counts {
		n += c
	}
	return n
}

// take reads all and returns the event's line. It is valid until the next call.
func (r *reading) take(event string) []byte {
	metrics.Read(r.sample[:])
	at, cpu := Monotonic(), cpuTime()
	h := r.sample[0].Value.Float64Histogram()
	b := append(r.line[:0], `{"event":"`...)
	b = append(b, event...)
	b = append(b, `",`...)
	b = append(b, r.head...)
	field := func(name string, v int64) {
		b = append(b, `,"`...)
		b = append(b, name...)
		b = append(b, `":`...)
		b = strconv.AppendInt(b, v, 10)
	}
	field("at_ns", at)
	field("cpu_ns", cpu)
	field("iterations", int64(iterations()))
	field("gomaxprocs", int64(runtime.GOMAXPROCS(0)))
	field("goroutines", int64(runtime.NumGoroutine()))
	if r.living[0].Name != "" {
		metrics.Read(r.living[:])
		field("sched_goroutines", int64(r.living[0].Value.Uint64()))
	}
	b = append(b, `,"latencies":`...)
	b = appendBuckets(b, h)
	if r.stops[0].Name != "" {
		metrics.Read(r.stops[:])
		b = append(b, `,"stops":`...)
		b = appendBuckets(b, r.stops[0].Value.Float64Histogram())
	}
	b = append(b, `,"extra":`...)
	b = append(b, r.tail...)
	if len(r.bounds) > 0 {
		b = append(append(b, `,"bounds_ns":`...), r.bounds...)
		r.bounds = nil
	}
	b = append(b, '}', '\n')
	r.line = b
	return b
}

// appendBuckets appends the non-empty buckets of a histogram as an array.
func appendBuckets(b []byte, h *metrics.Float64Histogram) []byte {
	b = append(b, '[')
	first := true
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '[')
		b = strconv.AppendInt(b, bound(h.Buckets[i]), 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, bound(h.Buckets[i+1]), 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, n, 10)
		b = append(b, ']')
	}
	return append(b, ']')
}

// bound is a bucket's bound in nanoseconds; -1 stands for an infinite one.
func bound(seconds float64) int64 {
	if math.IsInf(seconds, 0) {
		return -1
	}
	return int64(math.Round(seconds * 1e9))
}
