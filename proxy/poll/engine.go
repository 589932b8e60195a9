package poll

import (
	"errors"
	"runtime"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// maxWorkers bounds the workers: one does what PgBouncer does with one thread, and the servers need
// cores too.
const maxWorkers = 4

// Turner is what an engine serves: a session with two sockets. Turn is called when one of them has
// something to read, with the key that Add returned. It must not wait. ended says that the peer has
// closed its half of the connection or all of it, so that an end comes after the bytes. Only one
// call for a session runs at a time.
//
// A socket that becomes readable is reported once: a Turn that may have left bytes or an end in it
// calls Again.
type Turner interface {
	Turn(key uint64, server, ended bool)
}

// Engine serves sessions between Start and Stop. It serves none before and after, and none on
// systems other than Linux; their owners serve them by goroutines. Safe for concurrent use.
type Engine struct {
	queue atomic.Pointer[queue]
}

// Start starts the workers. That there can be none is no error.
func (e *Engine) Start(log zerolog.Logger) {
	q, err := newQueue(min(maxWorkers, runtime.GOMAXPROCS(0)))
	switch {
	case err == nil:
		e.queue.Store(q)
	case !errors.Is(err, errors.ErrUnsupported):
		log.Warn().Err(err).Msg("sessions are served by goroutines")
	}
}

// Stop ends the workers, once they serve no session any more.
func (e *Engine) Stop() {
	if q := e.queue.Swap(nil); q != nil {
		q.close()
	}
}

// Runs reports whether sessions can be added.
func (e *Engine) Runs() bool { return e.queue.Load() != nil }

// Add gives a session and its two sockets to the engine, and returns the key by which the engine
// knows it, 0 if it is not served. A key is never used twice.
func (e *Engine) Add(t Turner, client, server int) uint64 {
	if q := e.queue.Load(); q != nil {
		return q.add(t, client, server)
	}
	return 0
}

// Remove takes back what Add gave. A Turn that runs goes on, and others may come: they find that
// their key has ended.
func (e *Engine) Remove(key uint64, client, server int) {
	if q := e.queue.Load(); q != nil {
		q.remove(key, client, server)
	}
}

// Again has a Turn called for a socket that may be readable still, after those that are waiting.
// The socket must be the session's: no Remove may come before it returns.
func (e *Engine) Again(key uint64, socket int, server bool) {
	if q := e.queue.Load(); q != nil {
		q.again(key, socket, server)
	}
}
