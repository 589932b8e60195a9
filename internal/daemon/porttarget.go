package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/internal/control"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/schema"
)

// targetPort is cutover.Target: the opening side of a forward cutover and its
// register.
type targetPort struct {
	dsn     pg.DSN
	key     string
	control *link
	asking  *link // statements that may be asked beside them
	reading *link // the same for the fingerprint, with a bound on lock waits
	pre     *prelock
	plan    func() (*schema.DecisionSQL, error)
	reached func() pg.LSN                   // end of the marker's transaction
	after   func(ctx context.Context) error // what the migration does first after a decision
	last    func(ctx context.Context, conn *pgx.Conn) (refused []schema.Finding, err error)
	// unfinished puts what the target refused into words, and left keeps it.
	unfinished func(ctx context.Context, conn *pgx.Conn, refused []*schema.RestoreError) []control.Blocker
	left       *completion
	completing sync.Mutex // held by who does the work after the decision
	complete   func()     // told when the target is whole
	majors     [2]int
	late       func() []string // as the source's
}

func (t *targetPort) tables(ctx context.Context) (tables []pg.Name, err error) {
	err = t.control.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		tables, err = journal.Tables(ctx, conn)
		return err
	})
	return tables, err
}

// Prelock implements cutover.Target.
func (t *targetPort) Prelock(ctx context.Context, _ int64, lost func(string)) error {
	tables, err := t.tables(ctx)
	if err != nil {
		return err
	}
	return portError(t.pre.take(ctx, tables, lost), false)
}

// ReleasePrelock implements cutover.Target.
func (t *targetPort) ReleasePrelock(context.Context) error {
	t.pre.release()
	return nil
}

// Decision implements cutover.Target.
func (t *targetPort) Decision(ctx context.Context, epoch int64) (cutover.Decision, error) {
	out := cutover.Decision{Epoch: epoch, Verdict: cutover.VerdictAbsent}
	err := t.asking.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if epoch == 0 {
			last, err := journal.LastCommit(ctx, conn)
			if err == nil && last > 0 {
				out = cutover.Decision{Epoch: last, Verdict: cutover.VerdictCommit}
			}
			return err
		}
		d, err := journal.ReadDecision(ctx, conn, epoch)
		out.Verdict = verdict(d)
		return err
	})
	return out, err
}

// Reject implements cutover.Target.
func (t *targetPort) Reject(ctx context.Context, epoch int64) (cutover.Decision, error) {
	out := cutover.Decision{Epoch: epoch}
	err := t.asking.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		d, err := journal.Reject(ctx, conn, epoch)
		out.Verdict = verdict(d)
		return err
	})
	return out, portError(err, true)
}

func verdict(d journal.Decision) cutover.Verdict {
	switch d {
	case journal.Commit:
		return cutover.VerdictCommit
	case journal.Abort:
		return cutover.VerdictAbort
	}
	return cutover.VerdictAbsent
}

// Fingerprint implements cutover.Target.
func (t *targetPort) Fingerprint(ctx context.Context) (cutover.Fingerprint, error) {
	return fingerprint(ctx, t.reading, t.pre.watch, t.majors, t.late)
}

// Complete implements cutover.Target: it validates the foreign keys and
// restores the last part, while applications write. What the target refuses of that is no
// error: it is told, and tried again by keepCompleting.
func (t *targetPort) Complete(ctx context.Context, _ int64) error {
	t.completing.Lock()
	defer t.completing.Unlock()
	if err := t.after(ctx); err != nil {
		return err
	}
	sql, err := t.plan()
	if err != nil {
		return err
	}
	conn, err := pg.Connect(ctx, t.dsn, pg.WithName("complete"), pg.WithKey(t.key))
	if err != nil {
		return err
	}
	defer closeNow(conn)
	refused, err := schema.RunAfter(ctx, conn, sql.After)
	if err != nil {
		return fmt.Errorf("complete the target: %w", err)
	}
	more, err := t.last(ctx, conn)
	if err != nil {
		return fmt.Errorf("complete the target: %w", err)
	}
	left := t.unfinished(ctx, conn, append(refused, asRefusals(more)...))
	t.left.set(left)
	if len(left) > 0 {
		return nil
	}
	if err := journal.SetPhase(ctx, conn, journal.PhaseValid); err != nil {
		return err
	}
	t.complete()
	return nil
}

// completionPause is how long work that the target has refused is left alone.
const completionPause = 5 * time.Second

// keepCompleting does again what the target has refused after the decision, while still
// reports that it is to be done, until ctx ends.
func (t *targetPort) keepCompleting(ctx context.Context, still func() bool) error {
	tick := time.NewTicker(completionPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if len(t.left.blockers()) == 0 || !still() {
			continue
		}
		if err := t.Complete(ctx, 0); err != nil && ctx.Err() == nil {
			t.left.log.Warn().Err(err).Msg("work after the switch is tried again")
		}
	}
}

// errDecisionUnknown says that the decision's commit got no answer.
var errDecisionUnknown = errors.New("the decision's commit got no answer")
