// Goroutine: almost nothing but the runtime, which is what matters where a program is built in many variants.
package main

func main() {
	done := make(chan int)
	go func() { done <- 1 }()
	<-done
}
