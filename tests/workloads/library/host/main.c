/* The C program around the library: does its work for so many milliseconds, and fails if it did none. It begins a while
 * after the library is ready, when the probes on its start have to be gone. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "library.h"

int main(int argc, char **argv) {
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	usleep(500 * 1000);
	return Work(argc > 1 ? atoi(argv[1]) : 0) > 0 ? 0 : 1;
}
