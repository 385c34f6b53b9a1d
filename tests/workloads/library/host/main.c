/* The C program around the library. With a number it does its work for so many milliseconds, and fails if it did none. It
 * begins a while after the library is ready, when the probes on its start have to be gone.
 *
 * With `leaderless` another thread works without an end, and the first one ends when its standard input does. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "library.h"

static void *work(void *unused) {
	for (;;)
		Work(100);
	return unused;
}

static int leave(void) {
	pthread_t thread;
	char byte;

	if (pthread_create(&thread, 0, work, 0))
		return 1;
	while (read(0, &byte, 1) > 0)
		;
	pthread_exit(0);
}

int main(int argc, char **argv) {
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	if (argc > 1 && strcmp(argv[1], "leaderless") == 0)
		return leave();
	usleep(500 * 1000);
	return Work(argc > 1 ? atoi(argv[1]) : 0) > 0 ? 0 : 1;
}
