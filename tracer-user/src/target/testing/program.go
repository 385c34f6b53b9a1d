// A program that knows its own functions: for every "START END" on its standard input (addresses, in hex)
// it writes which function the runtime says is at each address of that range, innermost inlined one first,
// and then "end".
package main

import (
	"runtime"
	"syscall"
)

var sink int

func innermost(x int) int { sink += x * 0x1234567; return sink }
func middle(x int) int    { sink++; return innermost(x) + 1 }
func outer(x int) int     { sink--; return middle(x) + 2 }

//go:noinline
func holder(x int) int { return outer(x) }

func worker(c chan int) {
	for v := range c {
		holder(v)
	}
}

const digits = "0123456789abcdef"

func hex(b []byte, v uintptr) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>uint(shift)&15])
	}
	return b
}

func main() {
	c := make(chan int)
	go worker(c)
	go func() { c <- 1 }()
	c <- 2
	var in, out []byte
	buf := make([]byte, 4096)
	for {
		n, err := syscall.Read(0, buf)
		if n <= 0 || err != nil {
			break
		}
		in = append(in, buf[:n]...)
	}
	var numbers []uintptr
	number, any := uintptr(0), false
	for _, b := range in {
		d := -1
		for i := range digits {
			if digits[i] == b {
				d = i
			}
		}
		if d >= 0 {
			number, any = number<<4|uintptr(d), true
		} else if any {
			numbers, number, any = append(numbers, number), 0, false
		}
	}
	for i := 0; i+1 < len(numbers); i += 2 {
		last := ""
		for pc := numbers[i]; pc < numbers[i+1]; pc++ {
			f, _ := runtime.CallersFrames([]uintptr{pc + 1}).Next()
			if f.Function != last || pc == numbers[i] {
				last = f.Function
				out = append(append(append(hex(out, pc), ' '), last...), '\n')
			}
		}
	}
	out = append(out, "end\n"...)
	for len(out) > 0 {
		n, err := syscall.Write(1, out)
		if n <= 0 || err != nil {
			break
		}
		out = out[n:]
	}
}
