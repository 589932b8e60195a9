// Package apptest gives tests of internal/app the ports of a run over two databases, and types
// remedies as they are printed.
package apptest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/slot"
	"crossfade/replicate/verify"
	"crossfade/schema/plan"
)

// LockTimeout bounds the wait for a lock.
const LockTimeout = 200 * time.Millisecond

// Patience bounds the statements of the fixture.
var Patience = journal.Patience{LockTimeout: LockTimeout}

// PortsFixture has the ports of both sides over real databases.
type PortsFixture struct {
	T                    *testing.T
	SourceDSN, TargetDSN pg.DSN
	Source, Target       *pgx.Conn
	JournalPort          *ports.Journal
	SourcePort           *ports.Source
	TargetPort           *ports.Target
	Cover                *watch.Coverage // of SourcePort
	Reached              pg.LSN
}

const fixtureTables = `CREATE TABLE public.a (id int PRIMARY KEY, v text); CREATE TABLE public.b (id int PRIMARY KEY, a_id int);
	CREATE SEQUENCE public.s`

// NewPortsFixture is a fixture over two databases of the test's own.
func NewPortsFixture(t *testing.T) *PortsFixture {
	t.Helper()
	return PortsFixtureOn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
}

// PortsFixtureOn is a fixture whose source is a database of the test's own.
func PortsFixtureOn(t *testing.T, source pg.DSN) *PortsFixture {
	t.Helper()
	ctx := context.Background()
	b := &PortsFixture{T: t, SourceDSN: source, TargetDSN: pgtest.Database(t, pgtest.Shared(t, pgtest.Target))}
	b.Source, b.Target = pgtest.Conn(t, b.SourceDSN), pgtest.Conn(t, b.TargetDSN)
	pgtest.Exec(t, b.Source, fixtureTables)
	pgtest.Exec(t, b.Target, fixtureTables)
	require.NoError(t, journal.InstallSource(ctx, b.Source, journal.SourceRun{RunID: "r", Key: "k"}))
	require.NoError(t, journal.InstallTarget(ctx, b.Target, journal.TargetRun{RunID: "r", Key: "k", Mode: runs.ModeRun}))
	require.NoError(t, journal.PrepareFence(ctx, b.Source, Patience, false))
	require.NoError(t, journal.PrepareFence(ctx, b.Target, Patience, true))
	pgtest.Exec(t, b.Target, `INSERT INTO crossfade.progress (lane, owner, end_lsn) VALUES (0, 1, '0/100')`)

	link := func(d pg.DSN, opts ...pg.Option) *dbconn.Link {
		l := dbconn.New(d, opts...)
		t.Cleanup(l.Close)
		return l
	}
	pre := func(d pg.DSN, opts ...pg.Option) *ports.Prelock {
		p := &ports.Prelock{DSN: d, Options: opts, Watch: link(d)}
		t.Cleanup(p.Release)
		return p
	}
	who := &ports.Owner{}
	b.Cover = &watch.Coverage{}
	control := link(b.SourceDSN)
	b.JournalPort = &ports.Journal{Source: control, Target: link(b.TargetDSN, pg.WithKey("k")), Owner: who, Lead: func(context.Context) error { return nil }, Finished: func() (int64, bool) { return 0, false }, Gone: func() bool { return false }}
	b.SourcePort = &ports.Source{Owner: who, Incarnation: "me", LockTimeout: LockTimeout, Control: control, Counting: link(b.SourceDSN), Reading: link(b.SourceDSN), Lock: pre(b.SourceDSN),
		Register: func(context.Context) error { return nil }, ServerPIDs: func() []int32 { return nil }, RoundTrips: func(context.Context) [2]time.Duration { return [2]time.Duration{} },
		Expect: func(int64, string) error { return nil }, Cover: b.Cover, Version: 150000, Majors: [2]int{15, 15}}
	watching := watch.New(link(b.SourceDSN), link(b.TargetDSN, pg.WithKey("k")), zerolog.Nop(), watch.Watcher{Name: "tables", Fenced: true, Ask: b.Cover.Ask},
		watch.Watcher{Name: "publication", Fenced: true, Ask: (&watch.Members{}).Ask}, watch.Watcher{Name: "fence", Fenced: true, Ask: watch.AskFence},
		watch.Watcher{Name: "strangers at the target", Fenced: true, Ask: (&watch.TargetWriters{}).Ask})
	b.SourcePort.Confirm = watching.Confirm
	b.TargetPort = &ports.Target{Direction: machine.Forward, Opens: ports.OpensTarget, DSN: b.TargetDSN, Key: "k", Control: link(b.TargetDSN, pg.WithKey("k")), Asking: link(b.TargetDSN, pg.WithKey("k")), Reading: link(b.TargetDSN, pg.WithKey("k")),
		Lock: pre(b.TargetDSN, pg.WithKey("k")), Reached: func() pg.LSN { return b.Reached }, Majors: [2]int{15, 15},
		Plan: func(context.Context, *pgx.Conn) (*plan.DecisionSQL, error) {
			return &plan.DecisionSQL{Decide: []plan.Statement{{Kind: "FK CONSTRAINT", Name: "b_a", SQL: "ALTER TABLE public.b ADD CONSTRAINT b_a FOREIGN KEY (a_id) REFERENCES public.a (id) NOT VALID"}}}, nil
		}}
	require.NoError(t, slot.EnsurePublication(ctx, b.Source, slot.PublicationConfig{Name: journal.Publication,
		Tables: []pg.Name{{Schema: "public", Name: "a"}, {Schema: "public", Name: "b"}}}))
	pgtest.Exec(t, b.Target, `INSERT INTO crossfade.relation (relid, nsp, rel, state) VALUES (`+
		pgtest.Value(t, b.Source, `SELECT 'public.a'::regclass::oid`)+`, 'public', 'a', 'copied'), (`+
		pgtest.Value(t, b.Source, `SELECT 'public.b'::regclass::oid`)+`, 'public', 'b', 'copied')`)
	was, err := watch.PublicationOf(ctx, b.Source)
	require.NoError(t, err)
	require.NoError(t, journal.SetPublished(ctx, b.Target, was))
	require.NoError(t, b.Cover.Load(ctx, b.Target))
	require.NoError(t, journal.Seal(ctx, b.Target))
	return b
}

// Pause takes an epoch to the step pausing.
func (b *PortsFixture) Pause(epoch int64) {
	b.T.Helper()
	ctx := context.Background()
	_, err := b.JournalPort.Take(ctx)
	require.NoError(b.T, err)
	require.NoError(b.T, b.JournalPort.Claim(ctx, cutover.Claim{Epoch: epoch, Direction: machine.Forward}))
	require.NoError(b.T, b.JournalPort.Persist(ctx, cutover.Change{Epoch: epoch, Direction: machine.Forward, From: machine.Arming, To: machine.Pausing}))
}

// SourceState is what the journal of the source says.
func (b *PortsFixture) SourceState() (journal.FenceState, journal.SourceRun) {
	b.T.Helper()
	f, err := journal.ReadFence(context.Background(), b.Source)
	require.NoError(b.T, err)
	r, err := journal.LoadSource(context.Background(), b.Source)
	require.NoError(b.T, err)
	return f, *r
}

// Decide enters a decision for the first epoch.
func (b *PortsFixture) Decide() {
	b.T.Helper()
	pgtest.Exec(b.T, b.Target, "INSERT INTO crossfade.decision (epoch, decision) VALUES (1, 'commit')")
}

// Nightly is a session past the proxy that has an application's name.
func Nightly(t *testing.T, b *PortsFixture, sql string) (*pgx.Conn, int32) {
	t.Helper()
	conn := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, conn, "SET application_name = 'nightly'")
	var pid int32
	require.NoError(t, conn.QueryRow(context.Background(), "SELECT pg_backend_pid()").Scan(&pid))
	pgtest.Exec(t, conn, "BEGIN")
	pgtest.Exec(t, conn, sql)
	return conn, pid
}

// NewProofs makes a fixture whose tables have equal rows.
func NewProofs(t *testing.T) *PortsFixture {
	t.Helper()
	b := NewPortsFixture(t)
	pgtest.Exec(t, b.Source, "INSERT INTO public.a SELECT i, 'v' || i FROM generate_series(1, 500) i; INSERT INTO public.b SELECT i, i FROM generate_series(1, 500) i")
	pgtest.Exec(t, b.Target, "SET crossfade.key = 'k'; INSERT INTO public.a SELECT i, 'v' || i FROM generate_series(1, 500) i; INSERT INTO public.b SELECT i, i FROM generate_series(1, 500) i")
	return b
}

// VerificationOf is one as a start of the program has it.
func VerificationOf(b *PortsFixture, source pg.DSN) *ports.Verification {
	link := dbconn.New(b.TargetDSN)
	v := &ports.Verification{Source: source, Target: b.TargetDSN, Journal: link, Log: zerolog.Nop(), Tables: func(context.Context) ([]verify.Table, error) {
		return []verify.Table{{Name: pg.Name{Schema: "public", Name: "a"}, Columns: []string{"id", "v"}, Key: []string{"id"}},
			{Name: pg.Name{Schema: "public", Name: "b"}, Columns: []string{"id", "a_id"}, Key: []string{"id"}}}, nil
	}}
	b.T.Cleanup(func() {
		v.End()
		link.Close()
	})
	return v
}

// AwaitVerdict waits for the end of a comparison, and returns what came of it.
func AwaitVerdict(t *testing.T, v *ports.Verification) cutover.VerificationStatus {
	t.Helper()
	require.Eventually(t, func() bool { return v.Ended() }, pgtest.Timeout, 10*time.Millisecond, "the comparison ends")
	return v.Status()
}

// QuietCalls counts the requests for a moment of quiet, and holds no session.
type QuietCalls struct {
	N     atomic.Int64
	Limit time.Duration
}

// Quiet is a ports.Quiet.
func (c *QuietCalls) Quiet(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	c.N.Add(1)
	c.Limit = limit
	return do(ctx)
}
