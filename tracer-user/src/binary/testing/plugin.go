// A plugin whose goroutines block and wake each other.
package main

// Work passes a token back and forth n times.
func Work(n int) {
	there, back := make(chan int), make(chan int)
	go func() {
		for token := range there {
			back <- token
		}
		close(back)
	}()
	for i := 0; i < n; i++ {
		there <- i
		<-back
	}
	close(there)
	<-back
}

func main() {}
