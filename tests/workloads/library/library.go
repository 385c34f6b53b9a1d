// Library: Go in a C program. Its runtime starts in a constructor, on a thread of its own, and main.main is never called.
package main

import "C"

import "time"

// An init that takes a while.
var ready = func() bool {
	time.Sleep(20 * time.Millisecond)
	return true
}()

// Work plays ping-pong for so long, and returns how often.
//
//export Work
func Work(milliseconds C.int) C.longlong {
	there, back := make(chan int64), make(chan int64)
	go func() {
		for n := range there {
			back <- n + 1
		}
		close(back)
	}()
	var n int64
	end := time.Now().Add(time.Duration(milliseconds) * time.Millisecond)
	for ready && time.Now().Before(end) {
		there <- n
		n = <-back
	}
	close(there)
	return C.longlong(n)
}

func main() { panic("main.main of a library was called") }
