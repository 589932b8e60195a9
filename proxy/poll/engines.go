package poll

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// maxEngines bounds the engines: one does what PgBouncer does with one thread, and the servers need
// cores too.
const maxEngines = 4

// CrowdedAt is how many sessions an engine has before further ones are shared out among all
// engines. A few clients are served best by half of the cores. With more of them, and their servers
// on the same machine, each engine is one of many threads that want a core, and waits for it most
// of the time: with two engines the proxy waits half as long.
const CrowdedAt = 8

// Turner is what an engine serves: a session with two sockets. Turn is called by the engine's
// goroutine when one of them has something to read, with the key that Add returned, and must not
// wait.
type Turner interface {
	Turn(key uint64, server bool)
}

// Engines are the running engines; there are none before Start and after Stop, and none on systems
// other than Linux.
type Engines struct {
	running atomic.Pointer[[]*Engine]
	wait    sync.WaitGroup
	usual   uint64 // how many are used before they are crowded
}

// Start makes the engines. Without an engine, sessions are served by goroutines, so that is no
// error.
func (g *Engines) Start(log zerolog.Logger) {
	cores := runtime.GOMAXPROCS(0)
	usual := min(maxEngines, cores/2)
	spinSlots := make(chan struct{}, usual) // their servers need cores too
	var list []*Engine
	for range min(maxEngines, cores) {
		e, err := newEngine(spinSlots)
		if err != nil {
			if !errors.Is(err, errors.ErrUnsupported) {
				log.Warn().Err(err).Msg("sessions are served by goroutines")
			}
			break
		}
		list = append(list, e)
		g.wait.Go(e.run)
	}
	if len(list) > 0 {
		g.usual = uint64(min(len(list), max(1, usual)))
		g.running.Store(&list)
	}
}

// Stop ends the engines. They serve no session any more.
func (g *Engines) Stop() {
	if list := g.running.Swap(nil); list != nil {
		for _, e := range *list {
			e.close()
		}
	}
	g.wait.Wait()
}

// Any reports whether there are engines.
func (g *Engines) Any() bool { return g.running.Load() != nil }

// SessionCounts returns how many sessions each engine has.
func (g *Engines) SessionCounts() []int {
	list := g.running.Load()
	if list == nil {
		return nil
	}
	var n []int
	for _, e := range *list {
		n = append(n, e.sessions())
	}
	return n
}

// Pick returns the engine for a session, nil if there is none.
func (g *Engines) Pick(id uint64) *Engine {
	list := g.running.Load()
	if list == nil {
		return nil
	}
	return choose(*list, int(id%g.usual))
}

// choose takes the engine at index usual or, if that is crowded, the one with the fewest sessions.
func choose[E interface{ sessions() int }](list []E, usual int) E {
	best := list[usual]
	least := best.sessions()
	if least < CrowdedAt {
		return best
	}
	for _, e := range list {
		if n := e.sessions(); n < least {
			best, least = e, n
		}
	}
	return best
}
