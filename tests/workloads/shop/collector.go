package main

import (
	"sync"
	"sync/atomic"
	"time"

	"gmpscope.test/workloads/internal/control"
)

const (
	// period is how often metrics are collected.
	period = 150 * time.Millisecond
	// series is how many there are.
	series = 10
	// compute is the CPU time of computing one of them: less than the 10 ms after which the runtime preempts a
	// goroutine, so that each runs to its end.
	compute = 6 * time.Millisecond
)

// metricsCollector collects metrics for a dashboard.
type metricsCollector struct {
	// anew: compute all series each time, as a collector does that keeps samples and no sums.
	anew      bool
	rounds    uint64
	sold      atomic.Uint64
	published [series]uint64
}

func newMetricsCollector(anew bool) *metricsCollector {
	return &metricsCollector{anew: anew, rounds: control.LoopsFor(compute)}
}

// Sold counts an order.
func (c *metricsCollector) Sold() { c.sold.Add(1) }

// Run collects until the phase is to end.
func (c *metricsCollector) Run(p *control.Phase) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.Collect()
		case <-p.Done():
			return
		}
	}
}

// Collect brings all series up to date.
func (c *metricsCollector) Collect() {
	if !c.anew {
		for i := range c.published {
			c.published[i] = c.sold.Load()
		}
		return
	}
	var all sync.WaitGroup
	all.Add(series)
	for i := range c.published {
		go func(i int) {
			defer all.Done()
			c.published[i] = control.Loops(c.rounds)
		}(i)
	}
	all.Wait()
}
