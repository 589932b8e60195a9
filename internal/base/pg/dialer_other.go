//go:build !linux

package pg

import "syscall"

// userTimeout does nothing: as with libpq, tcp_user_timeout has an effect only where the system
// knows it.
func userTimeout(int) func(network, address string, c syscall.RawConn) error { return nil }
