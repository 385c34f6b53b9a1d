// Forks_first: a C constructor forks before Go's runtime starts, where FORK_FIRST is set. The parent waits and takes over
// the status; the child, which never executed anything, becomes the Go program.
package main

/*
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((constructor)) static void fork_first(void) {
	if (!getenv("FORK_FIRST"))
		return;
	pid_t child = fork();
	if (child > 0) {
		int status = 0;
		waitpid(child, &status, 0);
		_exit(WEXITSTATUS(status));
	}
}
*/
import "C"

import (
	"os"
	"time"
)

func main() {
	time.Sleep(300 * time.Millisecond)
	os.Exit(7)
}
