// Package checksum computes checkable results: a hash of many numbers, made by goroutines that pass each number on,
// and the same made without goroutines.
package checksum

import "fmt"

// FNV-1a, 64 bits.
const (
	// Offset is the hash of nothing.
	Offset = 14695981039346656037
	prime  = 1099511628211
)

// Hash is the hash h continued by the bytes of n.
func Hash(h, n uint64) uint64 {
	for i := 0; i < 8; i++ {
		h = (h ^ (n & 0xff)) * prime
		n >>= 8
	}
	return h
}

// Plain returns the hash sum continued by the hashes of count numbers from first on.
func Plain(sum, first, count uint64) uint64 {
	for i := first; i < first+count; i++ {
		sum = Hash(sum, Hash(Offset, i))
	}
	return sum
}

// Block computes the same as [Plain] by a pipeline of goroutines; a result that differs is an error.
func Block(sum, first, count uint64) (uint64, error) {
	source, hashed := make(chan uint64), make(chan uint64)
	go func() {
		for i := first; i < first+count; i++ {
			source <- i
		}
		close(source)
	}()
	go func() {
		for i := range source {
			hashed <- Hash(Offset, i)
		}
		close(hashed)
	}()
	own := Plain(sum, first, count)
	for h := range hashed {
		sum = Hash(sum, h)
	}
	if own != sum {
		return sum, fmt.Errorf("the block from %d on has the checksum %#x, not %#x", first, sum, own)
	}
	return sum, nil
}
