// Package account looks up its user in its init, as programs do that want to know where their files are. With cgo
// the C library does it, and reads other files than Go would.
package account

import (
	"os/user"

	"gmpscope.test/workloads/slow_start/cause"
)

// Name is the user's name.
var Name string

func init() {
	if !cause.Is("account") {
		return
	}
	if u, err := user.Lookup("nobody"); err == nil {
		Name = u.Username
	}
}
