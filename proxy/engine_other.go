//go:build !linux

package proxy

import (
	"errors"
	"syscall"
)

// engine is for Linux; elsewhere every session has its pumps.
type engine struct{}

func newEngine(chan struct{}) (*engine, error) { return nil, errors.ErrUnsupported }
func (e *engine) add(*relay, int, int) uint64  { return 0 }
func (e *engine) remove(uint64, int, int)      {}
func (e *engine) sessions() int                { return 0 }
func (e *engine) run()                         {}
func (e *engine) close()                       {}
func writeNow(int, []byte) (int, error)        { return 0, syscall.EAGAIN }
func readNow(fd int, p []byte) (n int, err error) {
	for {
		n, err := syscall.Read(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
