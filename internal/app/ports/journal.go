package ports

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

// Owner is the token by which the run row knows this coordinator. It changes with each Take.
type Owner struct {
	mu    sync.Mutex
	token string
}

func (o *Owner) get() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.token
}

func (o *Owner) set(token string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.token = token
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
	var r journal.SourceRun
	err := j.Control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		r, err = journal.Take(ctx, conn, token)
		return err
	})
	if err != nil {
		return machine.Record{}, portError(err, true)
	}
	j.Owner.set(token)
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
