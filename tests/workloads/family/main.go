// Family: a program that starts others. Each prints its PID and the time on CLOCK_MONOTONIC on its first line of
// main; its first argument says what it does then.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	// With cgo it makes the program depend on the C library.
	_ "os/user"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"gmpscope.test/workloads/internal/control"
)

func main() {
	begun := control.Monotonic()
	// A single write: other processes write to the same pipe.
	fmt.Printf("main %d %d\n", os.Getpid(), begun)
	args := os.Args[1:]
	if len(args) == 0 {
		return
	}
	switch args[0] {
	case "run": // PROGRAM ARGS…: runs a child, and exits with its status.
		os.Exit(status(child(args[1:]).Run()))
	case "many": // N PROGRAM ARGS…: runs N children at the same time.
		many(number(args[1]), args[2:])
	case "exec": // PROGRAM ARGS…: executes it in its own place.
		panic(syscall.Exec(args[1], args[1:], os.Environ()))
	case "thread": // PROGRAM ARGS…: the same, from a thread that is not the process's first.
		go elsewhere(func() { panic(syscall.Exec(args[1], args[1:], os.Environ())) })
		select {}
	case "leave": // PROGRAM ARGS…: starts a child without waiting for it.
		if err := child(args[1:]).Start(); err != nil {
			panic(err)
		}
	case "exit": // CODE
		os.Exit(number(args[1]))
	case "sleep": // MILLISECONDS
		time.Sleep(time.Duration(number(args[1])) * time.Millisecond)
	}
}

// Elsewhere calls f on a thread that is not the first of the process.
func elsewhere(f func()) {
	runtime.LockOSThread()
	if syscall.Gettid() == os.Getpid() {
		// This goroutine keeps the first thread.
		go elsewhere(f)
		select {}
	}
	f()
}

func child(args []string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func many(n int, args []string) {
	var all sync.WaitGroup
	for i := 0; i < n; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if code := status(child(args).Run()); code != 0 {
				os.Exit(code)
			}
		}()
	}
	all.Wait()
}

func status(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	panic(err)
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}
