package daemon

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// calls counts the moments of quiet that are asked for, and holds nobody.
type calls struct {
	n     atomic.Int64
	limit time.Duration
}

func (c *calls) quiet(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	c.n.Add(1)
	c.limit = limit
	return do(ctx)
}

// A finish that waits for work after the switch names who holds its tables, and applications are not held for a
// transaction that will hardly end in that time.
func TestAFinishNamesWhoKeepsTheWorkAfterTheSwitchWaiting(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	holder := pgtest.Conn(t, b.targetDSN, pg.WithKey("k"))
	pgtest.Exec(t, holder, "SET application_name = 'nightly'")
	pid := pgtest.Value(t, holder, "SELECT pg_backend_pid()")
	pgtest.Exec(t, holder, "BEGIN")
	pgtest.Exec(t, holder, "INSERT INTO public.a VALUES (1, 's3cret')")

	key := plan.Statement{Kind: "FK CONSTRAINT", Schema: "public", Name: "b b_a", SQL: "ALTER TABLE public.b\n    ADD CONSTRAINT b_a FOREIGN KEY (a_id) REFERENCES public.a (id);",
		Locks: []pg.Name{{Schema: "public", Name: "b"}, {Schema: "public", Name: "a"}}}
	var asked calls
	var said lockedBuffer
	d := &daemon{verify: &verification{}, left: &completion{log: zerolog.New(&said)}, migration: &migration{phase: journal.PhaseSwitched}}
	b.dst.left, b.dst.quiet, b.dst.complete, b.dst.unfinished = d.left, asked.quiet, d.migration.setValid, d.migration.unfinished
	b.dst.plan = func() (*plan.DecisionSQL, error) { return &plan.DecisionSQL{After: []plan.Statement{key}}, nil }
	b.dst.after = func(context.Context) error { return nil }
	b.dst.last = func(context.Context, *pgx.Conn) ([]finding.Finding, error) { return nil, nil }
	done := make(chan error, 1)
	go func() { done <- b.dst.Complete(context.WithoutCancel(t.Context()), 1) }()

	status := cutover.Status{State: machine.State{Step: machine.Decided}, Active: machine.SideTarget, Verification: cutover.VerificationStatus{State: "done"}}
	waits := func() (detail, remedy string) {
		t.Helper()
		found := d.finishBlockers(status, nil)
		require.Len(t, found, 1, "told once")
		require.Equal(t, "target_not_whole", found[0].Code)
		return found[0].Detail, found[0].Remedy
	}
	tries := func(n int) func() bool {
		return func() bool {
			d.left.mu.Lock()
			defer d.left.mu.Unlock()
			return d.left.tries >= n
		}
	}
	require.Eventually(t, tries(1), pgtest.Timeout, time.Millisecond)
	detail, remedy := waits()
	require.Contains(t, detail, "; the writers of public.b and public.a leave no moment for: ALTER TABLE public.b ADD CONSTRAINT b_a FOREIGN KEY (a_id) REFERENCES public.a (id); they are held by process "+pid+
		" of "+b.targetDSN.User()+` (application "nightly", from `)
	require.Contains(t, detail, "in a transaction open for ")
	require.Contains(t, detail, "last statement: INSERT INTO public.a VALUES (?, ?)")
	require.NotContains(t, detail, "s3cret")
	require.Contains(t, remedy, "where the transactions that write to these tables end soon")

	require.Eventually(t, tries(6), pgtest.Timeout, time.Millisecond) // the last one asks for a moment of quiet
	require.Zero(t, asked.n.Load(), "nobody is held for a transaction that is open for so long")
	require.Equal(t, 1, strings.Count(said.String(), "waits for locks"), said.String())
	pgtest.Exec(t, holder, "COMMIT")
	require.NoError(t, <-done)
	require.Empty(t, d.finishBlockers(status, nil))
	require.Empty(t, d.left.waiting())
	require.Equal(t, "1", pgtest.Value(t, b.target, "SELECT count(*) FROM pg_constraint WHERE conname = 'b_a'"))
}

// Applications are held for a statement where none of the transactions that hold its tables is old, and where there is
// a proxy that holds them.
func TestApplicationsAreHeldForAStatementWhoseWritersAreShort(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := plan.Statement{Locks: []pg.Name{{Schema: "public", Name: "a"}}}
	locked := 0
	lock := func(context.Context) error {
		locked++
		return nil
	}
	held, err := b.dst.inQuiet(t.Context(), s, lock)
	require.NoError(t, err)
	require.False(t, held, "nobody can be held")
	require.Equal(t, 1, locked)

	var asked calls
	b.dst.quiet = asked.quiet
	writer := pgtest.Conn(t, b.targetDSN, pg.WithKey("k"))
	pgtest.Exec(t, writer, "BEGIN")
	pgtest.Exec(t, writer, "INSERT INTO public.a VALUES (1, 'x')")
	held, err = b.dst.inQuiet(t.Context(), s, lock)
	require.NoError(t, err)
	require.True(t, held)
	require.Equal(t, 2, locked)
	require.EqualValues(t, 1, asked.n.Load())
	require.Equal(t, quietLimit, asked.limit)
}

// What a statement without tables of its own waits for is told too, and in the log not at each try.
func TestAStatementThatWaitsIsToldNowAndThen(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	c := &completion{log: zerolog.New(&said)}
	for range toldWaits + 1 {
		c.wait(plan.Statement{SQL: "ALTER TABLE public.a\n VALIDATE CONSTRAINT c;"}, nil)
	}
	require.Equal(t, "a statement waits for a lock: ALTER TABLE public.a VALIDATE CONSTRAINT c", c.waiting())
	require.Equal(t, 2, strings.Count(said.String(), "waits for locks"))
	c.set(nil)
	require.Empty(t, c.waiting())
}

// lockedBuffer is a bytes.Buffer that is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
