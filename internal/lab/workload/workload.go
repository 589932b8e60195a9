package workload

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Workload is a set of running clients.
type Workload struct {
	clients  []*client
	news     *news
	stopping chan struct{}
	stop     func() // closes stopping, once
	abandon  context.CancelFunc
	all      sync.WaitGroup
}

// Start connects all clients and lets them run. The end of ctx breaks off what
// they do; Stop lets them end it. When a client cannot connect none runs. The
// caller must Stop.
func Start(ctx context.Context, cfg Config) (*Workload, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	w := &Workload{news: &news{}, stopping: make(chan struct{})}
	w.stop = sync.OnceFunc(func() { close(w.stopping) })
	ctx, w.abandon = context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(ctx)
	for i := range cfg.Clients {
		c := newClient(cfg, i, &record{news: w.news})
		w.clients = append(w.clients, c)
		g.Go(func() error {
			if err := c.connect(gctx); err != nil {
				return fmt.Errorf("start client %d (%s): %w", c.number, c.driver, err)
			}
			return nil
		})
	}
	err := g.Wait()
	if err != nil {
		w.stop() // each client closes its session and returns
	}
	for _, c := range w.clients {
		w.all.Go(func() { c.run(ctx, w.stopping) })
	}
	if err != nil {
		w.all.Wait()
		w.abandon()
		return nil, err
	}
	return w, nil
}

// Stop lets each client end its transaction, closes the connections and returns
// the report. When ctx ends first, what is under way is broken off; its outcome
// is then unknown or failed, as the report says. Stop may be called again.
func (w *Workload) Stop(ctx context.Context) Report {
	w.stop()
	release := context.AfterFunc(ctx, w.abandon)
	defer release()
	w.all.Wait()
	w.abandon()
	return report(w.clients)
}

// Totals counts what all clients have done so far.
func (w *Workload) Totals() Totals {
	var t Totals
	for _, c := range w.clients {
		t.plus(c.rec.now())
	}
	return t
}

// AwaitEach returns when every client has had n more transactions acknowledged
// than at the call, or with an error that names a client that has not when ctx
// ends.
func (w *Workload) AwaitEach(ctx context.Context, n int) error {
	goal := make([]int, len(w.clients))
	for i, c := range w.clients {
		goal[i] = c.rec.now().Acknowledged + n
	}
	for i := 0; i < len(w.clients); {
		next := w.news.next()
		have := w.clients[i].rec.now()
		if have.Acknowledged >= goal[i] {
			i++
			continue
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("await %d transactions of each client: client %d (%s) has %d to go, after %d errors: %w",
				n, w.clients[i].number, w.clients[i].driver, goal[i]-have.Acknowledged, have.Errors(), ctx.Err())
		}
	}
	return nil
}
