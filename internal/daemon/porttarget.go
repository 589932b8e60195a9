package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/schema"
)

// targetPort is cutover.Target: the opening side of a forward cutover and its
// register.
type targetPort struct {
	dsn      pg.DSN
	key      string
	control  *link
	asking   *link // statements that may be asked beside them
	reading  *link // the same for the fingerprint, with a bound on lock waits
	pre      *prelock
	plan     func() (*schema.DecisionSQL, error)
	reached  func() pg.LSN                   // end of the marker's transaction
	after    func(ctx context.Context) error // what the migration does first behind a decision
	last     func(ctx context.Context, conn *pgx.Conn) error
	complete func() // told when the target is whole
	majors   [2]int
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
	return fingerprint(ctx, t.reading, t.majors)
}

// Complete implements cutover.Target: it validates the foreign keys and
// restores the last part, while applications write.
func (t *targetPort) Complete(ctx context.Context, _ int64) error {
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
	if err := schema.RunAfter(ctx, conn, sql.After); err != nil {
		return fmt.Errorf("complete the target: %w", err)
	}
	if err := t.last(ctx, conn); err != nil {
		return fmt.Errorf("complete the target: %w", err)
	}
	if err := journal.SetPhase(ctx, conn, journal.PhaseValid); err != nil {
		return err
	}
	t.complete()
	return nil
}

// errDecisionUnknown says that the decision's commit got no answer.
var errDecisionUnknown = errors.New("the decision's commit got no answer")
