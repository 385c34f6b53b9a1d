// Storm: computes checkable results in every place that a tracer could break: in goroutines that pass numbers on, in
// child processes, which run this same program, and, where it is built with cgo, in C and in threads that C has
// made. A result that differs, or a child that fails, ends the program with an error. One iteration is one correct
// result.
//
// Without -control it prints `begun` and, at its end, `right`; its parent may be gone by then.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"gmpscope.test/workloads/internal/checksum"
	"gmpscope.test/workloads/internal/control"
)

const numbers = 64

func main() {
	if len(os.Args) == 3 && os.Args[1] == "-child" {
		first, err := strconv.ParseUint(os.Args[2], 10, 64)
		control.Check(err)
		sum, err := checksum.Block(checksum.Offset, first, numbers)
		control.Check(err)
		fmt.Println(sum)
		return
	}
	pause := flag.Duration("pause", time.Millisecond, "after each block")
	forks := flag.Duration("forks", 20*time.Millisecond, "between two children")
	fault := flag.Uint64("fault", 0, "block with a wrong checksum, to see whether that is noticed")
	control.Main(control.Workload{Name: "storm", Run: func(p *control.Phase) {
		if !control.Controlled() {
			fmt.Println("begun")
		}
		var all sync.WaitGroup
		begin := func(work func(*control.Phase)) {
			all.Add(1)
			go func() {
				defer all.Done()
				work(p)
			}()
		}
		begin(func(p *control.Phase) { blocks(p, *pause, *fault) })
		begin(func(p *control.Phase) { children(p, *forks) })
		begin(foreign)
		all.Wait()
		if !control.Controlled() {
			fmt.Println("right")
		}
	}})
}

func blocks(p *control.Phase, pause time.Duration, fault uint64) {
	c := control.NewCounter()
	var sum uint64
	var err error
	for n := uint64(0); p.More(n); n++ {
		sum, err = checksum.Block(sum, n*numbers, numbers)
		if err == nil && fault > 0 && n == fault {
			err = fmt.Errorf("block %d was made wrong on purpose", n)
		}
		control.Check(err)
		c.Add(1)
		time.Sleep(pause)
	}
}

func children(p *control.Phase, pause time.Duration) {
	c := control.NewCounter()
	for n := uint64(0); p.More(n); n++ {
		out, err := exec.Command("/proc/self/exe", "-child", strconv.FormatUint(n, 10)).Output()
		if err != nil {
			control.Check(fmt.Errorf("child %d: %w", n, err))
		}
		said := strings.TrimSpace(string(out))
		if own := strconv.FormatUint(checksum.Plain(checksum.Offset, n, numbers), 10); said != own {
			control.Check(fmt.Errorf("child %d says %q, not %s", n, said, own))
		}
		c.Add(1)
		time.Sleep(pause)
	}
}
