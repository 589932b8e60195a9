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

// Journal is cutover.Journal on the run rows of both sides.
type Journal struct {
	Source, Target *dbconn.Link
	Owner          *Owner
	Lead           func(ctx context.Context) error // makes sure that this process has become the leader
	Finished       func() (epoch int64, ok bool)   // the last epoch of a run that is finished, whose row is gone
	Gone           func() bool                     // whether the source has nothing of the run any more
}

// row is the link to the side whose row has the steps of the epochs of a direction.
func (j *Journal) row(d machine.Direction) *dbconn.Link {
	if d.Closing() == machine.SideTarget {
		return j.Target
	}
	return j.Source
}

// Take implements cutover.Journal.
func (j *Journal) Take(ctx context.Context) (machine.Record, error) {
	if epoch, ok := j.Finished(); ok {
		return machine.Record{Epoch: epoch, Direction: machine.Forward, Step: machine.Finished}, nil
	}
	token := rand.Text()
	ctx, cancel := context.WithTimeout(ctx, takePatience)
	defer cancel()
	take := func(side *dbconn.Link, allowed error) *Taken {
		if allowed != nil {
			return &Taken{Err: allowed}
		}
		r, err := dbconn.Ask(ctx, side, func(ctx context.Context, conn *pgx.Conn) (journal.SourceRun, error) {
			return journal.Take(ctx, conn, token)
		})
		return &Taken{machine.Record{Epoch: r.Epoch, Direction: machine.Direction(r.Direction), Step: machine.StepName(r.Step)}, err}
	}
	var target *Taken
	both := sync.WaitGroup{}
	both.Go(func() { target = take(j.Target, nil) })
	source := take(j.Source, j.Lead(ctx))
	both.Wait()
	r, err := Newest(*source, *target)
	if err != nil {
		return machine.Record{}, portError(err, true)
	}
	j.Owner.token.Store(&token)
	return r, nil
}

// takePatience is how long a side may take to answer: less than the machine waits, since the answer
// of the other one may be enough.
const takePatience = 4 * time.Second

// Taken is what the row of one side says, or why it was not read.
type Taken struct {
	machine.Record
	Err error
}

// Newest is what the rows of both sides say together. The row of the newer epoch counts, and of the
// two of an epoch that was decided the closing side's, which has the steps. The row of the active
// side has the newest epoch: claims are made there, and a decision writes it into the row of the side
// that it opens. So one row is enough if it says that its side is active or may be, and has everything
// of its own epoch; the row of a side that a decision has closed says only that the other one is
// active.
func Newest(source, target Taken) (machine.Record, error) {
	switch {
	case source.Err == nil && target.Err == nil:
		if target.Epoch > source.Epoch || target.Epoch == source.Epoch && target.Direction.Closing() == machine.SideTarget {
			return target.Record, nil
		}
		return source.Record, nil
	case source.Err == nil:
		if source.Direction.Closing() == machine.SideSource && source.Step == machine.Decided {
			return machine.Record{}, fmt.Errorf("the target is the active side, and does not answer: %w", target.Err)
		}
		return source.Record, nil
	case target.Err == nil && target.Epoch > 0:
		if target.Direction.Closing() == machine.SideTarget && target.Step == machine.Decided {
			return machine.Record{}, fmt.Errorf("the source is the active side, and does not answer: %w", source.Err)
		}
		return target.Record, nil
	}
	return machine.Record{}, source.Err
}

// resting are the steps that an epoch can be claimed from.
var resting = []string{string(machine.Copying), string(machine.CatchingUp), string(machine.Following), string(machine.Idle), string(machine.Decided)}

// Claim implements cutover.Journal.
func (j *Journal) Claim(ctx context.Context, c cutover.Claim) error {
	return portError(j.row(c.Direction).Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.Claim(ctx, conn, c.Epoch, string(c.Direction), j.Owner.get(), resting)
	}), true)
}

// Persist implements cutover.Journal.
func (j *Journal) Persist(ctx context.Context, c cutover.Change) error {
	if j.Gone() { // there is no row that could say anything else
		return nil
	}
	return portError(j.row(c.Direction).Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
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

// Registrar keeps the list of our proxy's server connections on a side, so
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
