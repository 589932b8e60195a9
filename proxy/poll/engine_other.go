//go:build !linux

package poll

import "errors"

// Engine exists on Linux only; elsewhere the owner of a socket waits for it itself.
type Engine struct{ looking chan struct{} }

func newEngine(chan struct{}) (*Engine, error) { return nil, errors.ErrUnsupported }
func (e *Engine) Add(Turner, int, int) uint64  { return 0 }
func (e *Engine) Remove(uint64, int, int)      {}
func (e *Engine) sessions() int                { return 0 }
func (e *Engine) run()                         {}
func (e *Engine) close()                       {}
