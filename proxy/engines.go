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

// engines are those that run; none before Run and after it, none on other systems
// than Linux, and none where Config.Pumps says so.
type engines struct {
	running atomic.Pointer[[]*engine]
	wait    sync.WaitGroup
}

// start makes the engines. Without them the pumps do everything, so that is no error.
func (g *engines) start(p *Proxy) {
	if p.cfg.Pumps {
		return
	}
	var list []*engine
	for range min(maxEngines, max(1, runtime.GOMAXPROCS(0)/2)) {
		e, err := newEngine()
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

// pick returns the engine of a session, nil for none.
func (g *engines) pick(id uint64) *engine {
	list := g.running.Load()
	if list == nil {
		return nil
	}
	return (*list)[id%uint64(len(*list))]
}
