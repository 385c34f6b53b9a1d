// Slow_start: a program with a package for each cause of a slow start; SLOW_START names the one that is slow, and
// without it none is. On its first line of main it prints the time, on CLOCK_MONOTONIC.
package main

import (
	"fmt"
	"os"
	"syscall"

	"gmpscope.test/workloads/internal/control"
	_ "gmpscope.test/workloads/slow_start/account"
	_ "gmpscope.test/workloads/slow_start/collects"
	_ "gmpscope.test/workloads/slow_start/computes"
	_ "gmpscope.test/workloads/slow_start/dials"
	_ "gmpscope.test/workloads/slow_start/sleeps"
	_ "gmpscope.test/workloads/slow_start/table"
)

func main() {
	begun := control.Monotonic()
	fmt.Printf("main %d %d\n", os.Getpid(), begun)
	// Execute itself once more in the same process: then the time before its execve is known.
	if os.Getenv("SLOW_START_AGAIN") != "" {
		os.Unsetenv("SLOW_START_AGAIN")
		exe, err := os.Executable()
		if err != nil {
			panic(err)
		}
		environment := os.Environ()
		fmt.Printf("execve %d %d\n", os.Getpid(), control.Monotonic())
		panic(syscall.Exec(exe, os.Args, environment))
	}
	for _, arg := range os.Args[1:] {
		if arg == "whoami" {
			fmt.Printf("uid %d\n", os.Getuid())
		}
		if arg == "where" {
			folder, err := os.Getwd()
			fmt.Printf("%s %v %q\n", folder, err, os.Getenv("SLOW_START_SAYS"))
		}
		if arg == "wait" {
			// Until its standard input ends.
			os.Stdin.Read(make([]byte, 1))
		}
	}
}
