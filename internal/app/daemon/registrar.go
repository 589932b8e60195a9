package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
)

// registrar keeps the list of our proxy's server connections on the source, so
// that a later incarnation knows whom it may expel (C23).
type registrar struct {
	incarnation string
	control     *dbconn.Link
	pids        func() []int32

	mu   sync.Mutex // one flush at a time
	last []int32
}

// registerEvery is how old the list may be when this process is killed. The
// fence does not rely on it: a connection that is missing meets the fence.
const registerEvery = time.Second

func (r *registrar) run(ctx context.Context) error {
	tick := time.NewTicker(registerEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			bounded, cancel := context.WithTimeout(ctx, 5*registerEvery)
			_ = r.flush(bounded) // the next round, or the expelling, tries again
			cancel()
		}
	}
}

// flush makes the server connections of now known.
func (r *registrar) flush(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	pids := r.pids()
	slices.Sort(pids)
	if slices.Equal(pids, r.last) {
		return nil
	}
	err := r.control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.RegisterBackends(ctx, conn, r.incarnation, pids)
	})
	if err == nil {
		r.last = pids
	}
	return err
}
