package control

import (
	"sync"
	"sync/atomic"
)

// Phase is one stretch of running, from `go` to `park`.
type Phase struct {
	// Limit is how many iterations to do; 0: until stopped.
	Limit   uint64
	stopped atomic.Bool
	once    sync.Once
	done    chan struct{}
}

func newPhase(limit uint64) *Phase {
	return &Phase{Limit: limit, done: make(chan struct{})}
}

// Stopped reports whether the phase is to end. It costs one load.
func (p *Phase) Stopped() bool { return p.stopped.Load() }

// Done is closed when the phase is to end.
func (p *Phase) Done() <-chan struct{} { return p.done }

func (p *Phase) stop() {
	p.once.Do(func() {
		p.stopped.Store(true)
		close(p.done)
	})
}

// More reports whether another iteration is to be done after n iterations.
func (p *Phase) More(n uint64) bool {
	return !p.Stopped() && (p.Limit == 0 || n < p.Limit)
}

// Counter counts iterations. Each goroutine has its own, on its own cache line.
type Counter struct {
	n atomic.Uint64
	_ [120]byte
}

// Add counts n more iterations.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

var counters struct {
	sync.Mutex
	all []*Counter
}

// NewCounter makes a counter whose iterations count from now on.
func NewCounter() *Counter {
	c := new(Counter)
	counters.Lock()
	counters.all = append(counters.all, c)
	counters.Unlock()
	return c
}

// NewCounters makes n counters.
func NewCounters(n int) []*Counter {
	cs := make([]*Counter, n)
	for i := range cs {
		cs[i] = NewCounter()
	}
	return cs
}

func iterations() uint64 {
	counters.Lock()
	defer counters.Unlock()
	var n uint64
	for _, c := range counters.all {
		n += c.n.Load()
	}
	return n
}
