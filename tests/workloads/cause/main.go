// Cause: for each cause of a wait to run, a way of running in which nearly all waiting is due to it. The first argument
// names the cause; a second one, `twin`, asks for a run from which only that is missing. Some are made by what surrounds
// the program instead (a CPU quota, other processes on its CPUs): then the twin is the same run without it. What each way
// needs is in tests/src/causes/pathology.rs. One iteration is one round of a way.
//
// `cause serve` is a file system whose pages come slowly, in a process of its own: see serve.go.
package main

import (
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"

	"gmpscope.test/workloads/internal/control"
)

// way runs until the phase is stopped or its limit is reached.
type way func(p *control.Phase, twin bool)

// ways are the values of the first argument.
var ways = map[string]way{
	"yielded":          yielded,
	"stw":              stopped,
	"cgroup_throttled": computing,
	"locked_thread":    locked,
	"thread_wakeup":    woken,
	"p_busy":           computing,
	"gc":               collected,
	"os_preempted":     computing,
	"p_in_syscall":     inSyscalls,
	"thread_blocked":   blocked,
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		control.Check(serve())
		return
	}
	control.Main(control.Workload{Name: "cause", Setup: sizes, CountsStops: true, Run: func(p *control.Phase) {
		run, ok := ways[flag.Arg(0)]
		if !ok {
			control.Check(fmt.Errorf("%q: the first argument is one of %s", flag.Arg(0), strings.Join(names(), ", ")))
		}
		run(p, flag.Arg(1) == "twin")
	}})
}

// sizes are in every event: how many goroutines a cause makes wait at a time follows from them.
func sizes() map[string]interface{} {
	return map[string]interface{}{"computers": computers, "crowd": crowdSize}
}

func names() []string {
	var all []string
	for name := range ways {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}
