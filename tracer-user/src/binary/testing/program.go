// A program that knows its own functions: for every "START END" on its standard input (addresses, in hex)
// it writes which function the runtime says is at each address of that range, innermost inlined one first,
// with the line, and then "end". Before that it writes a stack of its own, frame by frame: "stack ADDRESS".
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

var stack []byte

//go:noinline
func tell() {
	pcs := make([]uintptr, 64)
	pcs = pcs[:runtime.Callers(1, pcs)]
	frames := runtime.CallersFrames(pcs)
	for _, pc := range pcs {
		f, more := frames.Next()
		stack = where(hex(append(stack, "stack "...), pc), f)
		if !more {
			break
		}
	}
}

// where adds function, file and line.
func where(b []byte, f runtime.Frame) []byte {
	b = append(append(append(b, ' '), f.Function...), ' ')
	b = append(append(b, f.File...), ':')
	digits := [20]byte{}
	at := len(digits)
	for line := f.Line; at == len(digits) || line > 0; line /= 10 {
		at--
		digits[at] = byte('0' + line%10)
	}
	return append(append(b, digits[at:]...), '\n')
}

type teller interface{ tell(n int) }
type nested struct{ n int }

func (t *nested) tell(n int) {
	if n > 0 {
		t.tell(n - 1)
	} else {
		within()
	}
	t.n++
}

// The compiler makes a method for it that calls the embedded one.
type nesting struct{ *nested }

func within() { sink++; around() }
func around() { tell() }

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
	var t teller = nesting{&nested{}}
	t.tell(3)
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
		var last runtime.Frame
		for pc := numbers[i]; pc < numbers[i+1]; pc++ {
			f, _ := runtime.CallersFrames([]uintptr{pc + 1}).Next()
			if f.Function != last.Function || f.Line != last.Line || pc == numbers[i] {
				last = f
				out = where(hex(out, pc), f)
			}
		}
	}
	out = append(append(stack, out...), "end\n"...)
	for len(out) > 0 {
		n, err := syscall.Write(1, out)
		if n <= 0 || err != nil {
			break
		}
		out = out[n:]
	}
}
