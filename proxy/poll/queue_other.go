//go:build !linux

package poll

import "errors"

// queue exists on Linux only; elsewhere the owner of a socket waits for it itself.
type queue struct{}

func newQueue(int) (*queue, error)         { return nil, errors.ErrUnsupported }
func (*queue) add(Turner, int, int) uint64 { return 0 }
func (*queue) remove(uint64, int, int)     {}
func (*queue) again(uint64, int, bool)     {}
func (*queue) close()                      {}
