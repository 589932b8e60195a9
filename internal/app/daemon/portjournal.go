package daemon

import (
	"context"
	"crypto/rand"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
)

// owner is the token by which the run row knows this coordinator. It changes
// with each Take.
type owner struct {
	mu    sync.Mutex
	token string
}

func (o *owner) get() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.token
}

func (o *owner) set(token string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.token = token
}

// journalPort is cutover.Journal on the source's run row.
type journalPort struct {
	control  *dbconn.Link
	owner    *owner
	lead     func(ctx context.Context) error // makes sure that this process has become the leader
	finished func() (epoch int64, ok bool)   // the last epoch of a run that is finished, whose row is gone
	gone     func() bool                     // whether the source has nothing of the run any more
}

// Take implements cutover.Journal.
func (j *journalPort) Take(ctx context.Context) (machine.Record, error) {
	if epoch, ok := j.finished(); ok {
		return machine.Record{Epoch: epoch, Direction: machine.Forward, Step: machine.Finished}, nil
	}
	if err := j.lead(ctx); err != nil {
		return machine.Record{}, err
	}
	token := rand.Text()
	var r journal.SourceRun
	err := j.control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		r, err = journal.Take(ctx, conn, token)
		return err
	})
	if err != nil {
		return machine.Record{}, portError(err, true)
	}
	j.owner.set(token)
	return machine.Record{Epoch: r.Epoch, Direction: machine.Direction(r.Direction), Step: machine.StepName(r.Step)}, nil
}

// resting are the steps that an epoch can be claimed from.
var resting = []string{string(machine.Copying), string(machine.CatchingUp), string(machine.Following), string(machine.Idle), string(machine.Decided)}

// Claim implements cutover.Journal.
func (j *journalPort) Claim(ctx context.Context, c cutover.Claim) error {
	return portError(j.control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.Claim(ctx, conn, c.Epoch, string(c.Direction), j.owner.get(), resting)
	}), true)
}

// Persist implements cutover.Journal.
func (j *journalPort) Persist(ctx context.Context, c cutover.Change) error {
	if j.gone() { // there is no row that could say anything else
		return nil
	}
	return portError(j.control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.Advance(ctx, conn, c.Epoch, j.owner.get(), string(c.From), string(c.To))
	}), true)
}
