package proxy

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// maxEngines bounds the engines: one does what PgBouncer does with one thread, and
// the server behind it needs cores too.
const maxEngines = 4

// fullHouse is how many sessions an engine has before further ones are shared out among
// all engines. Few clients are served best by half of the cores. Where there are more,
// and their servers run on the same machine, each engine is one thread among many that
// want a core, and waits for its turn most of the time: with two of them the proxy
// waits half as long.
const fullHouse = 8

// engines are those that run; none before Run and after it, none on other systems
// than Linux, and none where Config.Pumps says so.
type engines struct {
	running atomic.Pointer[[]*engine]
	wait    sync.WaitGroup
	usual   uint64 // how many there are before they are crowded
}

// start makes the engines. Without them the pumps do everything, so that is no error.
func (g *engines) start(p *Proxy) {
	if p.cfg.Pumps {
		return
	}
	cores := runtime.GOMAXPROCS(0)
	usual := min(maxEngines, cores/2)
	looking := make(chan struct{}, usual) // their servers need cores too
	var list []*engine
	for range min(maxEngines, cores) {
		e, err := newEngine(looking)
		if err != nil {
			if !errors.Is(err, errors.ErrUnsupported) {
				p.log.Warn().Err(err).Msg("sessions are served by goroutines")
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

// stop ends the engines. No session is left.
func (g *engines) stop() {
	if list := g.running.Swap(nil); list != nil {
		for _, e := range *list {
			e.close()
		}
	}
	g.wait.Wait()
}

// any reports whether there are engines.
func (g *engines) any() bool { return g.running.Load() != nil }

// pick returns the engine that a session is to be in, nil for none.
func (g *engines) pick(id uint64) *engine {
	list := g.running.Load()
	if list == nil {
		return nil
	}
	return choose(*list, int(id%g.usual))
}

// choose takes the engine at place usual or, where that is crowded, the one with the
// fewest sessions.
func choose[E interface{ sessions() int }](list []E, usual int) E {
	best := list[usual]
	least := best.sessions()
	if least < fullHouse {
		return best
	}
	for _, e := range list {
		if n := e.sessions(); n < least {
			best, least = e, n
		}
	}
	return best
}
