package ports

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// Owner is the token by which the run row knows this coordinator. It changes with each Take.
type Owner struct{ token atomic.Pointer[string] }

func (o *Owner) get() string {
	if t := o.token.Load(); t != nil {
		return *t
	}
	return ""
}

// journalPort is cutover.Journal on the source's run row.
type Journal struct {
	Control  *dbconn.Link
	Owner    *Owner
	Lead     func(ctx context.Context) error // makes sure that this process has become the leader
	Finished func() (epoch int64, ok bool)   // the last epoch of a run that is finished, whose row is gone
	Gone     func() bool                     // whether the source has nothing of the run any more
}

// Take implements cutover.Journal.
func (j *Journal) Take(ctx context.Context) (machine.Record, error) {
	if epoch, ok := j.Finished(); ok {
		return machine.Record{Epoch: epoch, Direction: machine.Forward, Step: machine.Finished}, nil
	}
	if err := j.Lead(ctx); err != nil {
		return machine.Record{}, err
	}
	token := rand.Text()
	r, err := dbconn.Ask(ctx, j.Control, func(ctx context.Context, conn *pgx.Conn) (journal.SourceRun, error) {
		return journal.Take(ctx, conn, token)
	})
	if err != nil {
		return machine.Record{}, portError(err, true)
	}
	j.Owner.token.Store(&token)
	return machine.Record{Epoch: r.Epoch, Direction: machine.Direction(r.Direction), Step: machine.StepName(r.Step)}, nil
}

// resting are the steps that an epoch can be claimed from.
var resting = []string{string(machine.Copying), string(machine.CatchingUp), string(machine.Following), string(machine.Idle), string(machine.Decided)}

// Claim implements cutover.Journal.
func (j *Journal) Claim(ctx context.Context, c cutover.Claim) error {
	return portError(j.Control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.Claim(ctx, conn, c.Epoch, string(c.Direction), j.Owner.get(), resting)
	}), true)
}

// Persist implements cutover.Journal.
func (j *Journal) Persist(ctx context.Context, c cutover.Change) error {
	if j.Gone() { // there is no row that could say anything else
		return nil
	}
	return portError(j.Control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.Advance(ctx, conn, c.Epoch, j.Owner.get(), string(c.From), string(c.To))
	}), true)
}

// portError translates an error into what the cutover must know of it. commit says that a commit
// was on its way, so that a lost connection leaves its outcome open.
func portError(err error, commit bool) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, journal.ErrMoved):
		return marked{err, cutover.ErrConflict} // which names the process that acts on the run
	case errors.Is(err, errWaitedFor), pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected):
		return fmt.Errorf("%w: %w", cutover.ErrLockTimeout, err)
	case commit && (pg.Code(err) == "" || pg.ConnectionLost(err)):
		return fmt.Errorf("%w: %w", cutover.ErrOutcomeUnknown, err)
	}
	return err
}

// marked is one of the errors that the cutover knows, with the message of its cause, which says the
// same and more.
type marked struct {
	error
	as error
}

func (m marked) Unwrap() []error { return []error{m.as, m.error} }

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
