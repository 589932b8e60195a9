//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"syscall"
)

// Enabled tells whether this build can arm points.
const Enabled = true

var armed = mustArm(os.Getenv(Variable))

// mustArm panics because it runs before main, where no caller could take an error, and only in
// builds made for fault tests.
func mustArm(value string) *set {
	s, err := parse(value)
	if err != nil {
		panic(fmt.Sprintf("read %s: %v", Variable, err))
	}
	return s
}

// Here kills the process when the point is armed with "kill" and this is the
// pass that was asked for. Safe for concurrent use.
func Here(name string) {
	if armed.pass(name) == actionKill {
		killSelf()
	}
}

// Err does what Here does, and returns an error that is ErrInjected when the
// point is armed with "error". Safe for concurrent use.
func Err(name string) error {
	switch armed.pass(name) {
	case actionKill:
		killSelf()
	case actionError:
		return fmt.Errorf("failpoint %s: %w", name, ErrInjected)
	}
	return nil
}

// killSelf does not return: SIGKILL cannot be caught, and the select keeps
// this goroutine from running on until the signal has been delivered.
func killSelf() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}
