//go:build !cgo
// +build !cgo

package main

import "gmpscope.test/workloads/internal/control"

// foreign does nothing without C.
func foreign(*control.Phase) {}
