package ports

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/retry"
)

// Registrar keeps the list of our proxy's server connections on the source, so
// that a later incarnation knows whom it may expel (C23).
type Registrar struct {
	Incarnation string
	Control     *dbconn.Link
	PIDs        func() []int32

	mu   sync.Mutex // one flush at a time
	last []int32
}

// registerEvery is how old the list may be when this process is killed. The
// fence does not rely on it: a connection that is missing meets the fence.
const registerEvery = time.Second

func (r *Registrar) Run(ctx context.Context) error {
	for range retry.Every(ctx, registerEvery) {
		bounded, cancel := context.WithTimeout(ctx, 5*registerEvery)
		_ = r.Flush(bounded) // the next round, or the expelling, tries again
		cancel()
	}
	return nil
}

// Flush makes the server connections of now known.
func (r *Registrar) Flush(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	pids := r.PIDs()
	slices.Sort(pids)
	if slices.Equal(pids, r.last) {
		return nil
	}
	err := r.Control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.RegisterBackends(ctx, conn, r.Incarnation, pids)
	})
	if err == nil {
		r.last = pids
	}
	return err
}
