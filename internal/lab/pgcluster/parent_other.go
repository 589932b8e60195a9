//go:build !linux

package pgcluster

import "syscall"

// endWithParent does nothing where the kernel has no such signal: there a program that is killed
// leaves its servers running, until someone ends them.
func endWithParent(*syscall.SysProcAttr) {}
