// Rules: programs with one pathology each, for the findings that name it, and with -twin the same without it. -do names the
// pathologies, with commas between. One iteration is one step of any goroutine.
package main

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/control"
)

var (
	do         = flag.String("do", "", "pathologies, with commas between")
	goroutines = flag.Int("goroutines", 8, "how many")
	twin       = flag.Bool("twin", false, "leave the pathology out")
)

// pathology does its steps until the phase is stopped. When it returns, all goroutines that it started have ended.
type pathology func(*control.Phase, *control.Counter)

var pathologies = map[string]pathology{
	"allocates": allocates,
	"blocks":    blocks,
	"collects":  collects,
	"computes":  computes,
	"herd":      herd,
	"leaks":     leaks,
	"locks":     locks,
	"resizes":   resizes,
	"stops":     stops,
	"trickles":  trickles,
	"wakes":     wakes,
	"yields":    yields,
}

func main() {
	control.Main(control.Workload{Name: "rules", Setup: setup, Run: run})
}

// setup calibrates the loops while nothing else runs.
func setup() map[string]interface{} {
	control.LoopsFor(time.Millisecond)
	return map[string]interface{}{"do": *do, "goroutines": *goroutines, "twin": *twin}
}

func run(p *control.Phase) {
	var all sync.WaitGroup
	for _, name := range strings.Split(*do, ",") {
		steps, found := pathologies[name]
		if !found {
			control.Check(fmt.Errorf("rules: there is no pathology %q", name))
		}
		all.Add(1)
		go func() {
			defer all.Done()
			steps(p, control.NewCounter())
		}()
	}
	all.Wait()
}

// each runs a function in n goroutines, again and again until the phase is stopped.
func each(n int, p *control.Phase, c *control.Counter, step func()) {
	var all sync.WaitGroup
	all.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			defer all.Done()
			for !p.Stopped() {
				step()
				c.Add(1)
			}
		}()
	}
	all.Wait()
}
