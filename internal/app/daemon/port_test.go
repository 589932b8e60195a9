package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/slot"
	"crossfade/schema/plan"
)

const testLockTimeout = 200 * time.Millisecond

var testPatience = journal.Patience{LockTimeout: testLockTimeout}

// bench has the ports of both sides over real databases.
type bench struct {
	t                    *testing.T
	sourceDSN, targetDSN pg.DSN
	source, target       *pgx.Conn
	journal              *journalPort
	src                  *sourcePort
	dst                  *targetPort
	reached              pg.LSN
}

const benchTables = `CREATE TABLE public.a (id int PRIMARY KEY, v text); CREATE TABLE public.b (id int PRIMARY KEY, a_id int);
	CREATE SEQUENCE public.s`

func newBench(t *testing.T) *bench {
	t.Helper()
	return benchOf(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
}

// benchOf is a bench whose source is a database of the test's own.
func benchOf(t *testing.T, source pg.DSN) *bench {
	t.Helper()
	ctx := context.Background()
	b := &bench{t: t, sourceDSN: source, targetDSN: pgtest.Database(t, pgtest.Shared(t, pgtest.Target))}
	b.source, b.target = pgtest.Conn(t, b.sourceDSN), pgtest.Conn(t, b.targetDSN)
	pgtest.Exec(t, b.source, benchTables)
	pgtest.Exec(t, b.target, benchTables)
	require.NoError(t, journal.InstallSource(ctx, b.source, journal.SourceRun{RunID: "r", Key: "k"}))
	require.NoError(t, journal.InstallTarget(ctx, b.target, journal.TargetRun{RunID: "r", Key: "k", Mode: runs.ModeRun}))
	require.NoError(t, journal.PrepareFence(ctx, b.source, testPatience, false))
	require.NoError(t, journal.PrepareFence(ctx, b.target, testPatience, true))
	pgtest.Exec(t, b.target, `INSERT INTO crossfade.progress (lane, owner, end_lsn) VALUES (0, 1, '0/100')`)

	link := func(d pg.DSN, opts ...pg.Option) *dbconn.Link {
		l := dbconn.New(d, opts...)
		t.Cleanup(l.Close)
		return l
	}
	pre := func(d pg.DSN, opts ...pg.Option) *prelock {
		p := &prelock{dsn: d, opts: opts, watch: link(d)}
		t.Cleanup(p.release)
		return p
	}
	who := &owner{}
	control := link(b.sourceDSN)
	b.journal = &journalPort{control: control, owner: who, lead: func(context.Context) error { return nil }, finished: func() (int64, bool) { return 0, false }, gone: func() bool { return false }}
	b.src = &sourcePort{owner: who, incarnation: "me", lockTimeout: testLockTimeout, control: control, census: link(b.sourceDSN), reading: link(b.sourceDSN), pre: pre(b.sourceDSN),
		register: func(context.Context) error { return nil }, serverPIDs: func() []int32 { return nil }, roundTrips: func(context.Context) [2]time.Duration { return [2]time.Duration{} },
		expect: func(int64, string) error { return nil }, cover: &watch.Coverage{}, version: 150000, majors: [2]int{15, 15}}
	watching := watch.New(link(b.sourceDSN), link(b.targetDSN, pg.WithKey("k")), zerolog.Nop(), watch.Watcher{Name: "tables", Fenced: true, Ask: b.src.cover.Ask},
		watch.Watcher{Name: "publication", Fenced: true, Ask: (&watch.Members{}).Ask}, watch.Watcher{Name: "fence", Fenced: true, Ask: watch.AskFence},
		watch.Watcher{Name: "strangers at the target", Fenced: true, Ask: (&watch.TargetWriters{}).Ask})
	b.src.confirm = watching.Confirm
	b.dst = &targetPort{dsn: b.targetDSN, key: "k", control: link(b.targetDSN, pg.WithKey("k")), asking: link(b.targetDSN, pg.WithKey("k")), reading: link(b.targetDSN, pg.WithKey("k")),
		pre: pre(b.targetDSN, pg.WithKey("k")), reached: func() pg.LSN { return b.reached }, majors: [2]int{15, 15},
		plan: func() (*plan.DecisionSQL, error) {
			return &plan.DecisionSQL{Decide: []plan.Statement{{Kind: "FK CONSTRAINT", Name: "b_a", SQL: "ALTER TABLE public.b ADD CONSTRAINT b_a FOREIGN KEY (a_id) REFERENCES public.a (id) NOT VALID"}}}, nil
		}}
	require.NoError(t, slot.EnsurePublication(ctx, b.source, slot.PublicationConfig{Name: journal.Publication,
		Tables: []pg.Name{{Schema: "public", Name: "a"}, {Schema: "public", Name: "b"}}}))
	pgtest.Exec(t, b.target, `INSERT INTO crossfade.relation (relid, nsp, rel, state) VALUES (`+
		pgtest.Value(t, b.source, `SELECT 'public.a'::regclass::oid`)+`, 'public', 'a', 'copied'), (`+
		pgtest.Value(t, b.source, `SELECT 'public.b'::regclass::oid`)+`, 'public', 'b', 'copied')`)
	was, err := publicationOf(ctx, b.source)
	require.NoError(t, err)
	require.NoError(t, journal.SetPublished(ctx, b.target, was))
	require.NoError(t, b.src.cover.Load(ctx, b.target))
	require.NoError(t, journal.Seal(ctx, b.target))
	return b
}

// pause takes an epoch to the step pausing.
func (b *bench) pause(epoch int64) {
	b.t.Helper()
	ctx := context.Background()
	_, err := b.journal.Take(ctx)
	require.NoError(b.t, err)
	require.NoError(b.t, b.journal.Claim(ctx, cutover.Claim{Epoch: epoch, Direction: machine.Forward}))
	require.NoError(b.t, b.journal.Persist(ctx, cutover.Change{Epoch: epoch, Direction: machine.Forward, From: machine.Arming, To: machine.Pausing}))
}

func (b *bench) sourceState() (journal.FenceState, journal.SourceRun) {
	b.t.Helper()
	f, err := journal.ReadFence(context.Background(), b.source)
	require.NoError(b.t, err)
	r, err := journal.LoadSource(context.Background(), b.source)
	require.NoError(b.t, err)
	return f, *r
}

func TestFenceCommitsTriggersStepAndNonceTogether(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBench(t)
	b.pause(1)
	require.NoError(t, b.src.Prelock(ctx, 1, func(string) {}))
	r, err := b.src.Fence(ctx, 1, "nonce")
	require.NoError(t, err)
	require.Equal(t, 2, r.Tables)
	require.NotEmpty(t, r.LSN)
	f, run := b.sourceState()
	require.True(t, f.Closed())
	require.Equal(t, "fenced", run.Step)
	require.Equal(t, "nonce", run.Nonce)

	require.NoError(t, b.src.Unfence(ctx, 1))
	f, run = b.sourceState()
	require.False(t, f.Closed())
	require.Equal(t, "idle", run.Step)
	pgtest.Exec(t, b.source, "INSERT INTO public.a VALUES (1, 'x')")
	require.ErrorIs(t, b.src.Unfence(ctx, 1), cutover.ErrConflict)
}

func TestALateFenceOfAnotherOwnerChangesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBench(t)
	b.pause(1)
	require.NoError(t, b.src.Prelock(ctx, 1, func(string) {}))
	pgtest.Exec(t, b.source, `UPDATE crossfade.run SET coordinator = 'somebody else'`)
	_, err := b.src.Fence(ctx, 1, "nonce")
	require.ErrorIs(t, err, cutover.ErrConflict)
	f, run := b.sourceState()
	require.Zero(t, f.Enabled)
	require.Equal(t, "pausing", run.Step)
}

func TestAWriterInFlightKeepsTheFenceOpenAndIsNotHeldUp(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBench(t)
	b.pause(1)
	writer := pgtest.Conn(t, b.sourceDSN)
	pgtest.Exec(t, writer, "BEGIN; INSERT INTO public.a VALUES (1, 'x')")
	_, err := b.src.Fence(ctx, 1, "nonce")
	require.ErrorIs(t, err, cutover.ErrLockTimeout)
	f, _ := b.sourceState()
	require.Zero(t, f.Enabled)
	pgtest.Exec(t, writer, "INSERT INTO public.a VALUES (2, 'y'); COMMIT")
	_, err = b.src.Fence(ctx, 1, "nonce")
	require.NoError(t, err)
	_, err = writer.Exec(ctx, "INSERT INTO public.a VALUES (3, 'z')")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
}

func TestATableWithoutFenceStopsTheFence(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pause(1)
	pgtest.Exec(t, b.source, "CREATE TABLE public.late (id int)")
	_, err := b.src.Fence(context.Background(), 1, "nonce")
	require.ErrorContains(t, err, "public.late")
	f, _ := b.sourceState()
	require.Zero(t, f.Enabled)
}

func TestWhatIsNotFollowedStopsTheCutover(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct{ sql, says string }{
		"made again under its name": {"CREATE TABLE public.c (LIKE public.a INCLUDING ALL); DROP TABLE public.a; ALTER TABLE public.c RENAME TO a", "public.a was dropped and made again"},
		"moved":                     {`CREATE SCHEMA other; ALTER TABLE public.a RENAME TO "a 2"; ALTER TABLE public."a 2" SET SCHEMA other`, "public.a was renamed to other.a 2"},
		"made":                      {"CREATE TABLE public.late (id int PRIMARY KEY)", "public.late was made since"},
		"renamed":                   {"ALTER TABLE public.a RENAME TO a2", "public.a was renamed to public.a2"},
		"dropped":                   {"DROP TABLE public.a", "public.a was dropped"},
		"not published":             {"ALTER PUBLICATION crossfade DROP TABLE public.a", "in publication crossfade any more"},
		"published in part":         {"ALTER PUBLICATION crossfade SET TABLE public.b, public.a WHERE (id > 0)", "does not publish all of table public.a"},
		"published for inserts":     {"ALTER PUBLICATION crossfade SET (publish = 'insert')", "does not publish all of table public.a"},
		"a subscription":            {"", "subscription feed writes the source"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			require.NoError(t, b.src.control.Do(ctx, b.src.cover.Check))
			if c.sql != "" {
				pgtest.Exec(t, b.source, c.sql)
			} else {
				super := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.sourceDSN.Database()))
				pgtest.Exec(t, super, "CREATE SUBSCRIPTION feed CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)")
				t.Cleanup(func() {
					pgtest.Exec(t, super, "ALTER SUBSCRIPTION feed DISABLE; ALTER SUBSCRIPTION feed SET (slot_name = NONE); DROP SUBSCRIPTION feed")
				})
				pgtest.Exec(t, super, "ALTER SUBSCRIPTION feed ENABLE")
			}
			require.NoError(t, journal.PrepareFence(ctx, b.source, testPatience, false))
			b.pause(1)
			err := b.src.Prelock(ctx, 1, func(string) {})
			require.ErrorContains(t, err, c.says)
			var stops *watch.WatchedError
			require.ErrorAs(t, b.src.confirm(ctx, false), &stops)
			want := "not_followed"
			if strings.Contains(name, "publish") {
				want = "publication_changed"
			}
			require.Len(t, stops.Blockers, 1, "told once")
			require.Equal(t, want, stops.Blockers[0].Code)
			remedy := stops.Blockers[0].Remedy
			_, err = b.src.Fence(ctx, 1, "nonce")
			require.ErrorContains(t, err, c.says)
			_, err = b.src.Fingerprint(ctx)
			require.ErrorContains(t, err, stops.Blockers[0].Detail)
			if !strings.Contains(remedy, "on the source: ") {
				require.Equal(t, watch.StartOver, remedy)
				return
			}
			if c.sql == "" {
				typed(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.sourceDSN.Database())), remedy, "source")
			} else {
				typed(t, b.source, remedy, "source")
			}
			require.Eventually(t, func() bool { return b.src.confirm(ctx, false) == nil }, pgtest.Timeout, 10*time.Millisecond, remedy)
			require.NoError(t, b.src.control.Do(ctx, b.src.cover.Check))
		})
	}
}

func TestTheGuardLetsThePreLockGoForWhoeverWaits(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBench(t)
	lost := make(chan string, 1)
	require.NoError(t, b.src.Prelock(ctx, 1, func(reason string) { lost <- reason }))
	app := pgtest.Conn(t, b.sourceDSN)
	pgtest.Exec(t, app, "INSERT INTO public.a VALUES (1, 'x')") // writers pass
	// The application's DDL gets its lock well within a second, although we had it.
	pgtest.Exec(t, app, "SET lock_timeout = '1s'; TRUNCATE public.a")
	require.Contains(t, <-lost, b.sourceDSN.User())
	require.NoError(t, b.src.ReleasePrelock(ctx))
	b.pause(1)
	_, err := b.src.Fence(ctx, 1, "nonce") // takes its locks itself
	require.NoError(t, err)
}

// The server ends the pre-lock of a process that says nothing any more, and only of such a one.
func TestThePreLockOfAStoppedProcessEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.src.pre
	p.beat = 100 * time.Millisecond
	require.NoError(t, b.src.Prelock(context.Background(), 1, func(string) {}))
	var limit, pid string
	func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		limit, pid = pgtest.Value(t, p.conn, "SELECT current_setting('idle_in_transaction_session_timeout')"), pgtest.Value(t, p.conn, "SELECT pg_backend_pid()")
		pgtest.Exec(t, p.conn, "SET LOCAL idle_in_transaction_session_timeout = '1s'")
	}()
	require.Equal(t, "20s", limit)
	sessions := func(more string) bool {
		return pgtest.Value(t, b.source, "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid+more) == "1"
	}
	require.Eventually(t, func() bool { return sessions(" AND xact_start < clock_timestamp() - interval '2 s'") }, pgtest.Timeout, 20*time.Millisecond)
	p.mu.Lock()
	stop, done := p.stop, p.done
	p.mu.Unlock()
	stop()
	<-done
	require.Eventually(t, func() bool { return !sessions("") }, pgtest.Timeout, 20*time.Millisecond)
}

func TestTheDecisionOpensTheTargetOnceAndWhole(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBench(t)
	in := cutover.DecisionInput{Epoch: 1, Direction: machine.Forward, Nonce: "n", Sequences: []cutover.Sequence{{Schema: "public", Name: "s", LastValue: 41, IsCalled: true}}}
	app := pgtest.Conn(t, b.targetDSN)
	closed := func() {
		t.Helper()
		_, err := app.Exec(ctx, "INSERT INTO public.a VALUES (1, 'x')")
		require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
		require.Equal(t, "true", pgtest.Value(t, b.target, `SELECT open FROM crossfade.progress`))
		require.Equal(t, "0", pgtest.Value(t, b.target, `SELECT count(*) FROM pg_constraint WHERE conname = 'b_a'`))
	}
	tried := in // a rehearsal moves sequences in spite of its rollback; the decision sets them right
	tried.Sequences = []cutover.Sequence{{Schema: "public", Name: "s", LastValue: 1000, IsCalled: true}}
	require.NoError(t, b.dst.RehearseDecision(ctx, tried))
	closed()
	b.reached = 0x200 // the lane stands at 0/100: the marker is not applied
	require.ErrorContains(t, b.dst.Decide(ctx, in), "short of")
	closed()
	b.reached = 0x100
	d, err := b.dst.Reject(ctx, 7)
	require.NoError(t, err)
	require.Equal(t, machine.VerdictAbort, d.Verdict)
	late := in
	late.Epoch = 7
	err = b.dst.Decide(ctx, late)
	require.Error(t, err)
	require.NotErrorIs(t, err, cutover.ErrOutcomeUnknown)
	closed()

	require.NoError(t, b.dst.Prelock(ctx, 1, func(string) {}))
	require.NoError(t, b.dst.Decide(ctx, in))
	d, err = b.dst.Decision(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, machine.VerdictCommit, d.Verdict)
	pgtest.Exec(t, app, "INSERT INTO public.a VALUES (1, 'x')")
	require.Equal(t, "42", pgtest.Value(t, app, `SELECT nextval('public.s')`))
	require.Equal(t, "false", pgtest.Value(t, b.target, `SELECT open FROM crossfade.progress`))
	require.Equal(t, "switched", pgtest.Value(t, b.target, `SELECT phase FROM crossfade.run`))
	require.Error(t, b.dst.Decide(ctx, in))
	d, err = b.dst.Reject(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, machine.VerdictCommit, d.Verdict, "what was committed cannot be rejected")
}
