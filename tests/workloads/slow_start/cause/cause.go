// Package cause tells the packages of slow_start which of them is to be slow.
package cause

import "os"

var wanted = os.Getenv("SLOW_START")

// Is says whether this is the one; without SLOW_START none is.
func Is(name string) bool { return wanted == name }
