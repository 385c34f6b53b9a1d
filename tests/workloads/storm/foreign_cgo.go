//go:build cgo
// +build cgo

package main

/*
#include <pthread.h>
#include <stdint.h>

extern void calledBack(uint64_t);

static uint64_t hash(uint64_t h, uint64_t n) {
	for (int i = 0; i < 8; i++) {
		h = (h ^ (n & 0xff)) * UINT64_C(1099511628211);
		n >>= 8;
	}
	return h;
}

static void *thread(void *n) {
	calledBack(hash(UINT64_C(14695981039346656037), *(uint64_t *)n));
	return 0;
}

static int hashInThread(uint64_t n) {
	pthread_t t;
	int failed = pthread_create(&t, 0, thread, &n);
	return failed ? failed : pthread_join(t, 0);
}
*/
import "C"

import (
	"fmt"
	"time"

	"gmpscope.test/workloads/internal/checksum"
	"gmpscope.test/workloads/internal/control"
)

var back = make(chan uint64, 1)

//export calledBack
func calledBack(h C.uint64_t) { back <- uint64(h) }

// foreign has C hash numbers, in this thread and in one that C makes, which calls back.
func foreign(p *control.Phase) {
	c := control.NewCounter()
	for n := uint64(0); p.More(n); n++ {
		own := checksum.Hash(checksum.Offset, n)
		if h := uint64(C.hash(checksum.Offset, C.uint64_t(n))); h != own {
			control.Check(fmt.Errorf("C says that the hash of %d is %#x, not %#x", n, h, own))
		}
		if failed := C.hashInThread(C.uint64_t(n)); failed != 0 {
			control.Check(fmt.Errorf("a thread of C: error %d", failed))
		}
		if h := <-back; h != own {
			control.Check(fmt.Errorf("a thread of C says that the hash of %d is %#x, not %#x", n, h, own))
		}
		c.Add(1)
		time.Sleep(2 * time.Millisecond)
	}
}
