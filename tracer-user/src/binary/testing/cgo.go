// A program in which C and Go call each other; as a library too.
package main

// static int twice(int x) { return 2 * x; }
import "C"

import "time"

//export GoThrice
func GoThrice(x int) int { return 3 * x }

func main() {
	if C.twice(21) != 42 {
		panic("twice")
	}
	for {
		time.Sleep(time.Hour)
	}
}
