// Plugin_pingpong: a plugin that does what pingpong does. Its goroutines are made, woken and parked by the plugin's own
// copies of the runtime's functions. One iteration is one round trip, which is two waits Runnable→Running.
package main

// Work passes a token back and forth for as long as there is more to do, and counts the round trips.
func Work(more func(n uint64) bool, add func(n uint64)) {
	there, back := make(chan struct{}), make(chan struct{})
	go func() {
		for range there {
			back <- struct{}{}
		}
		close(back)
	}()
	for n := uint64(0); more(n); n++ {
		there <- struct{}{}
		<-back
		add(1)
	}
	close(there)
	<-back
}

func main() {}
