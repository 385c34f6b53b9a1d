// Alternates: executes other programs in its place all the time: the given ones in turn, which are copies of itself,
// and every second time a shell and its sleep before the next.
package main

import (
	"flag"
	"os"
	"strconv"
	"syscall"
	"time"
)

func main() {
	turn := flag.Int("turn", 0, "which of the programs comes next")
	most := flag.Int("most", 60, "milliseconds for which it stays the same at most")
	flag.Parse()
	programs := flag.Args()
	if len(programs) == 0 {
		os.Exit(2)
	}
	now := time.Now().UnixNano()
	time.Sleep(time.Duration(now/1000%int64(*most)) * time.Millisecond)
	next := programs[*turn%len(programs)]
	command := append([]string{next, "-turn", strconv.Itoa(*turn + 1), "-most", strconv.Itoa(*most)}, programs...)
	if *turn%2 == 0 {
		syscall.Exec(next, command, os.Environ())
	}
	shell := []string{"sh", "-c", `sleep 0.005; exec "$@"`, "sh"}
	syscall.Exec("/bin/sh", append(shell, command...), os.Environ())
	os.Exit(3)
}
