package ports

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// Target is cutover.Target: the opening side of a direction, and its register.
type Target struct {
	Direction machine.Direction
	DSN       pg.DSN
	Key       string
	Control   *dbconn.Link
	Asking    *dbconn.Link // statements that may be asked at the same time
	Reading   *dbconn.Link // the same for the fingerprint, with a bound on lock waits
	Lock      *Prelock
	// Plan is what makes this side react to writes again, read over a session to it.
	Plan func(ctx context.Context, conn *pgx.Conn) (*plan.DecisionSQL, error)
	// Opens is SQL of the decision's transaction that is of this side alone, after what Plan says.
	Opens string
	// Done, if set, records that a statement of the work after a decision was executed.
	Done    func(ctx context.Context, conn *pgx.Conn, s plan.Statement) error
	Reached func() pg.LSN                   // end of the marker's transaction
	After   func(ctx context.Context) error // what the migration does first after a decision
	Last    func(ctx context.Context, conn *pgx.Conn) (refused []finding.Finding, err error)
	// Unfinished words what the target refused, and left keeps it.
	Unfinished func(ctx context.Context, conn *pgx.Conn, refused []*restore.Error) []control.Blocker
	Left       *Completion
	Quiet      Quiet                                           // of the proxy
	completing sync.Mutex                                      // held by who does the work after the decision
	Whole      func(ctx context.Context, conn *pgx.Conn) error // records that this side is whole
	Fenced     func() bool                                     // the source is fenced, or about to be
	// Reverse makes what the way back is read from; nil where there is none.
	Reverse func(ctx context.Context) error
	Majors  [2]int
	Late    func() []string // as the source's
	armed   fingerprints
}

// Prelock implements cutover.Target.
func (t *Target) Prelock(ctx context.Context, _ int64, lost func(string)) error {
	tables, err := dbconn.Ask(ctx, t.Control, journal.Tables)
	if err != nil {
		return err
	}
	return portError(t.Lock.take(ctx, tables, lost), false)
}

// ReleasePrelock implements cutover.Target.
func (t *Target) ReleasePrelock(context.Context) error {
	t.Lock.Release()
	return nil
}

// PrepareReverse implements cutover.Target.
func (t *Target) PrepareReverse(ctx context.Context) error {
	if t.Reverse == nil {
		return nil
	}
	return portError(t.Reverse(ctx), false)
}

// Decision implements cutover.Target.
func (t *Target) Decision(ctx context.Context, epoch int64) (cutover.Decision, error) {
	out := cutover.Decision{Epoch: epoch, Verdict: machine.VerdictAbsent}
	err := t.Asking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		d, err := journal.ReadDecision(ctx, conn, epoch)
		out.Verdict = verdict(d)
		return err
	})
	return out, err
}

// Reject implements cutover.Target.
func (t *Target) Reject(ctx context.Context, epoch int64) (cutover.Decision, error) {
	d, err := dbconn.Ask(ctx, t.Asking, func(ctx context.Context, conn *pgx.Conn) (journal.Decision, error) {
		return journal.Reject(ctx, conn, epoch)
	})
	return cutover.Decision{Epoch: epoch, Verdict: verdict(d)}, portError(err, true)
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
func (t *Target) Fingerprint(ctx context.Context) (machine.Fingerprint, error) {
	return t.armed.take(ctx, t.Fenced(), t.Reading, t.Lock.Watch, t.Majors, t.Late)
}

// Complete implements cutover.Target: it validates the foreign keys and restores the last part,
// while applications write. What the target refuses of that is no error: it is reported, and tried
// again by KeepCompleting.
func (t *Target) Complete(ctx context.Context, _ int64) error {
	_, err := t.CompleteOnce(ctx)
	return err
}

// CompleteOnce is Complete, and reports that a statement for which writers wait was not done in its
// time.
func (t *Target) CompleteOnce(ctx context.Context) (overdue bool, err error) {
	t.completing.Lock()
	defer t.completing.Unlock()
	if err := t.After(ctx); err != nil {
		return false, err
	}
	conn, err := pg.Connect(ctx, t.DSN, pg.WithName("complete"), pg.WithKey(t.Key))
	if err != nil {
		return false, err
	}
	defer dbconn.CloseNow(conn)
	sql, err := t.Plan(ctx, conn)
	if err != nil {
		return false, err
	}
	refused, err := restore.RunAfter(ctx, conn, sql.After, restore.AfterConfig{
		Waits: func(s plan.Statement) { t.Left.Wait(s, t.holders(ctx, s)) },
		Quiet: t.InQuiet,
	})
	if err != nil {
		return false, fmt.Errorf("complete the %s: %w", t.Direction.Opening(), err)
	}
	if err := t.done(ctx, conn, sql.After, refused); err != nil {
		return false, err
	}
	overdue = slices.ContainsFunc(refused, func(r *restore.Error) bool { return pg.IsCode(r.Err, pg.CodeQueryCanceled) })
	more, err := t.Last(ctx, conn)
	if err != nil {
		return overdue, fmt.Errorf("complete the %s: %w", t.Direction.Opening(), err)
	}
	for _, f := range more {
		refused = append(refused, &restore.Error{Finding: f})
	}
	left := t.Unfinished(ctx, conn, refused)
	t.Left.Set(left)
	if len(left) > 0 {
		return overdue, nil
	}
	return overdue, t.Whole(ctx, conn)
}

// done records what was not refused.
func (t *Target) done(ctx context.Context, conn *pgx.Conn, all []plan.Statement, refused []*restore.Error) error {
	if t.Done == nil {
		return nil
	}
	for _, s := range all {
		if slices.ContainsFunc(refused, func(r *restore.Error) bool { return r.Statement.SQL == s.SQL }) {
			continue
		}
		if err := t.Done(ctx, conn, s); err != nil {
			return err
		}
	}
	return nil
}

// holders are the transactions that hold tables against a statement that waits for its turn, the
// longest first; none where that cannot be asked.
func (t *Target) holders(ctx context.Context, s plan.Statement) (found []dbconn.Process) {
	if len(s.Locks) == 0 {
		return nil
	}
	return holdersOf(ctx, t.Asking, s.Locks, s.Exclusive)
}

// InQuiet takes the locks of a statement while applications are held between two transactions.
func (t *Target) InQuiet(ctx context.Context, s plan.Statement, lock func(context.Context) error) (held bool, err error) {
	return t.Quiet.run(ctx, func() []dbconn.Process { return t.holders(ctx, s) }, lock)
}

const (
	// CompletionPause is how long work that the target has refused is left alone at least.
	CompletionPause = 5 * time.Second
	// completionRest is how many times as long as a try took the next one is left: each reads
	// tables that the applications use.
	completionRest = 5
	// overdueRest is how long it is left alone at most, and where applications have waited for a
	// statement that was not done in its time: hardly anything but an operator changes that.
	overdueRest = 10 * time.Minute
)

// RestCompletion is how long the work is left alone after a try that took so long.
func RestCompletion(took time.Duration, overdue bool) time.Duration {
	if overdue {
		return overdueRest
	}
	return min(max(CompletionPause, completionRest*took), overdueRest)
}

// KeepCompleting does again what the target has refused after the decision, while still
// reports that it is to be done, until ctx ends.
func (t *Target) KeepCompleting(ctx context.Context, still func() bool) error {
	var rests time.Time // until when it is left alone
	for range retry.Every(ctx, CompletionPause) {
		if !still() || time.Now().Before(rests) {
			continue
		}
		begin := time.Now()
		overdue, err := t.CompleteOnce(ctx)
		if err != nil && ctx.Err() == nil {
			t.Left.Log.Warn().Err(err).Msg("work after the switch is tried again")
		}
		rests = time.Now().Add(RestCompletion(time.Since(begin), overdue) - CompletionPause)
	}
	return nil
}

// Completion is what of the work after the decision could not be done: it is tried
// again by itself, and until it is done `finish` refuses. It is safe for concurrent use.
type Completion struct {
	Log zerolog.Logger

	mu    sync.Mutex
	left  []control.Blocker
	waits string // what a statement waits for, "" for nothing
	tries int    // of that statement
}

// Set keeps what is left, and tells what is new of it.
func (c *Completion) Set(left []control.Blocker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range left {
		if !slices.Contains(c.left, b) {
			c.Log.Error().Str("code", b.Code).Str("detail", b.Detail).Str("remedy", b.Remedy).Msg("work after the switch is refused by the target; it is tried again")
		}
	}
	c.left, c.waits, c.tries = left, "", 0
}

// ToldWaits is after how many attempts a statement that waits for its locks is logged again.
const ToldWaits = 10

// Wait keeps what a statement waits for, and whom.
func (c *Completion) Wait(s plan.Statement, holders []dbconn.Process) {
	words := "a statement waits for a lock: " + strings.TrimSuffix(strings.Join(strings.Fields(s.SQL), " "), ";")
	if len(s.Locks) > 0 {
		words = "the writers of " + strings.Join(lists.Map(s.Locks, pg.Name.Display), " and ") + " leave no moment for: " + strings.TrimSuffix(strings.Join(strings.Fields(s.SQL), " "), ";")
	}
	for i, h := range holders {
		words += [2]string{"; they are held by ", " and "}[min(i, 1)] + h.String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tries++; c.tries%ToldWaits == 1 {
		c.Log.Info().Str("detail", words).Int("tries", c.tries).Msg("work after the switch waits for locks")
	}
	c.waits = words
}

// Waiting says what the work waits for, "" for nothing that is known.
func (c *Completion) Waiting() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waits
}

// Tries is how often the statement that waits for its locks has been tried.
func (c *Completion) Tries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tries
}

// Blockers are what is in the way of `finish`.
func (c *Completion) Blockers() []control.Blocker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.left)
}
