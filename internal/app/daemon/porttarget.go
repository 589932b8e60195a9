package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// targetPort is cutover.Target: the opening side of a forward cutover and its
// register.
type targetPort struct {
	dsn     pg.DSN
	key     string
	control *dbconn.Link
	asking  *dbconn.Link // statements that may be asked beside them
	reading *dbconn.Link // the same for the fingerprint, with a bound on lock waits
	pre     *prelock
	plan    func() (*plan.DecisionSQL, error)
	reached func() pg.LSN                   // end of the marker's transaction
	after   func(ctx context.Context) error // what the migration does first after a decision
	last    func(ctx context.Context, conn *pgx.Conn) (refused []finding.Finding, err error)
	// unfinished puts what the target refused into words, and left keeps it.
	unfinished func(ctx context.Context, conn *pgx.Conn, refused []*restore.Error) []control.Blocker
	left       *completion
	quiet      quiet                               // of the proxy
	completing sync.Mutex                          // held by who does the work after the decision
	complete   func()                              // told when the target is whole
	fenced     func() bool                         // the source is fenced, or about to be
	armed      atomic.Pointer[machine.Fingerprint] // as it was read last, while arming
	majors     [2]int
	late       func() []string // as the source's
}

func (t *targetPort) tables(ctx context.Context) (tables []pg.Name, err error) {
	err = t.control.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
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
	out := cutover.Decision{Epoch: epoch, Verdict: machine.VerdictAbsent}
	err := t.asking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if epoch == 0 {
			last, err := journal.LastCommit(ctx, conn)
			if err == nil && last > 0 {
				out = cutover.Decision{Epoch: last, Verdict: machine.VerdictCommit}
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
	err := t.asking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		d, err := journal.Reject(ctx, conn, epoch)
		out.Verdict = verdict(d)
		return err
	})
	return out, portError(err, true)
}

func verdict(d journal.Decision) machine.Verdict {
	switch d {
	case journal.Commit:
		return machine.VerdictCommit
	case journal.Abort:
		return machine.VerdictAbort
	}
	return machine.VerdictAbsent
}

// Fingerprint implements cutover.Target. Under the fence it is the one that was read last:
// the source's, which is asked for at the same time, fails where the watchers do not prove that no
// definition was changed since, on either side.
func (t *targetPort) Fingerprint(ctx context.Context) (machine.Fingerprint, error) {
	if known := t.armed.Load(); known != nil && t.fenced() {
		return *known, nil
	}
	f, err := takeFingerprint(ctx, t.reading, t.pre.watch, t.majors, t.late)
	if err == nil {
		t.armed.Store(&f)
	}
	return f, err
}

// Complete implements cutover.Target: it validates the foreign keys and
// restores the last part, while applications write. What the target refuses of that is no
// error: it is told, and tried again by keepCompleting.
func (t *targetPort) Complete(ctx context.Context, _ int64) error {
	_, err := t.completeOnce(ctx)
	return err
}

// completeOnce is Complete, and reports that a statement for which writers wait was not done in its time.
func (t *targetPort) completeOnce(ctx context.Context) (overdue bool, err error) {
	t.completing.Lock()
	defer t.completing.Unlock()
	if err := t.after(ctx); err != nil {
		return false, err
	}
	sql, err := t.plan()
	if err != nil {
		return false, err
	}
	conn, err := pg.Connect(ctx, t.dsn, pg.WithName("complete"), pg.WithKey(t.key))
	if err != nil {
		return false, err
	}
	defer dbconn.CloseNow(conn)
	refused, err := restore.RunAfter(ctx, conn, sql.After, restore.AfterConfig{
		Waits: func(s plan.Statement) { t.left.wait(s, t.holders(ctx, s.Locks)) },
		Quiet: t.inQuiet,
	})
	if err != nil {
		return false, fmt.Errorf("complete the target: %w", err)
	}
	overdue = slices.ContainsFunc(refused, func(r *restore.Error) bool { return pg.IsCode(r.Err, pg.CodeQueryCanceled) })
	more, err := t.last(ctx, conn)
	if err != nil {
		return overdue, fmt.Errorf("complete the target: %w", err)
	}
	left := t.unfinished(ctx, conn, append(refused, asRefusals(more)...))
	t.left.set(left)
	if len(left) > 0 {
		return overdue, nil
	}
	if err := journal.SetPhase(ctx, conn, journal.PhaseValid); err != nil {
		return overdue, err
	}
	t.complete()
	return overdue, nil
}

// holders are the transactions that hold tables against a statement that waits for its turn, the longest first;
// none where that cannot be asked.
func (t *targetPort) holders(ctx context.Context, tables []pg.Name) (found []dbconn.Process) {
	if len(tables) == 0 {
		return nil
	}
	return writersOf(ctx, t.asking, tables...)
}

// inQuiet takes the locks of a statement while applications are held between two transactions.
func (t *targetPort) inQuiet(ctx context.Context, s plan.Statement, lock func(context.Context) error) (held bool, err error) {
	return t.quiet.run(ctx, func() []dbconn.Process { return t.holders(ctx, s.Locks) }, lock)
}

const (
	// completionPause is how long work that the target has refused is left alone at least.
	completionPause = 5 * time.Second
	// completionRest is how many times as long as a try took the next one is left: each reads tables that the
	// applications use.
	completionRest = 5
	// overdueRest is how long it is left alone at most, and where applications have waited for a statement that
	// was not done in its time: hardly anything but an operator changes that.
	overdueRest = 10 * time.Minute
)

// restCompletion is how long the work is left alone after a try that took so long.
func restCompletion(took time.Duration, overdue bool) time.Duration {
	if overdue {
		return overdueRest
	}
	return min(max(completionPause, completionRest*took), overdueRest)
}

// keepCompleting does again what the target has refused after the decision, while still
// reports that it is to be done, until ctx ends.
func (t *targetPort) keepCompleting(ctx context.Context, still func() bool) error {
	tick := time.NewTicker(completionPause)
	defer tick.Stop()
	var rests time.Time // until when it is left alone
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if len(t.left.blockers()) == 0 || !still() || time.Now().Before(rests) {
			continue
		}
		begin := time.Now()
		overdue, err := t.completeOnce(ctx)
		if err != nil && ctx.Err() == nil {
			t.left.log.Warn().Err(err).Msg("work after the switch is tried again")
		}
		rests = time.Now().Add(restCompletion(time.Since(begin), overdue) - completionPause)
	}
}

// errDecisionUnknown says that the decision's commit got no answer.
var errDecisionUnknown = errors.New("the decision's commit got no answer")
