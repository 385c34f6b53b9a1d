// Package cause decides which of the packages of slow_start is slow.
package cause

import "os"

var wanted = os.Getenv("SLOW_START")

// Is reports whether this package is the slow one; without SLOW_START none is.
func Is(name string) bool { return wanted == name }
