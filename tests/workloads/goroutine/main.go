// Goroutine: next to nothing but the runtime, which is what is looked at where a program is built in many ways.
package main

func main() {
	done := make(chan int)
	go func() { done <- 1 }()
	<-done
}
