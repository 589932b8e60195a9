package copy

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/snapshot"
)

const bigDDL = `CREATE TABLE big (id int, t text)`

func (f *fixture) fillBig(rows int) {
	pgtest.Exec(f.t, f.source, "INSERT INTO big SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, $1::int) i", rows)
}

// watch runs f in a goroutine of its own until stop is called.
func watch(f func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	return func() { cancel(); <-done }
}

func TestKilledBackendsLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, bigDDL)
			f.fillBig(60_000)
			dsn, name := f.sourceDSN, "crossfade test reader"
			if side == "target" {
				dsn, name = f.targetDSN, "crossfade test writer"
			}
			killer := pgtest.Conn(t, dsn)
			cfg := f.config(side == "source")
			cfg.ChunkBytes = 1 << 20
			cfg.Limit = relay.NewLimiter(8 << 20) // a second in all: time to meet a session amid its rows
			c := f.copier(cfg)
			killed := 0
			stop := watch(func(ctx context.Context) {
				// One that is met at its very end has done its work: it is not repeated.
				for ctx.Err() == nil && (killed < 8 || c.Progress().Retries == 0) {
					if f.terminate(killer, name) {
						killed++
					}
				}
			})
			err := c.Run(f.context())
			stop()
			require.NoError(t, err)
			require.Positive(t, killed)
			require.Positive(t, c.Progress().Retries)
			f.requireEqual("big")
			require.Equal(t, "60000", pgtest.Value(t, f.target, "SELECT sum(rows) FROM crossfade.chunk"))
			require.EqualValues(t, 60_000, c.Progress().RowsDone)
		})
	}
}

func TestCommitWithoutAnswerIsReadFromTheRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL)
	f.fillBig(500)
	// A deferred trigger on the chunk records ends the session after the commit
	// of the first chunk was recorded: by dblink-free means, a sequence.
	cfg := f.config(false)
	cfg.Jobs = 1
	h, err := snapshot.Export(f.context(), cfg.Source)
	require.NoError(t, err)
	defer h.Close()
	cfg.Snapshot = h
	c := f.copier(cfg)
	// What a dead attempt with this very snapshot committed last.
	pgtest.Exec(t, f.target, `INSERT INTO crossfade.relation (relid, nsp, rel, state, snapshot, filenode)
		SELECT $1::oid, 'public', 'big', 'copying', $2, $3::oid`, cfg.Tables[0].OID, h.Text(),
		pgtest.Value(t, f.source, "SELECT pg_relation_filenode('big')"))
	pgtest.Exec(t, f.target, `INSERT INTO crossfade.chunk VALUES ($1::oid, 0, 2, $2, 0, 0)`, cfg.Tables[0].OID, h.Text())
	w := &worker{run: &run{cfg: &c.cfg, counters: &c.counters, yielder: snapshot.NewYielder(cfg.Source)}, bufs: relay.NewBuffers(1 << 16)}
	defer func() { snapshot.Close(w.source); snapshot.Close(w.target) }()
	filenode := facts{blocks: 100, filenode: parseOID(t, pgtest.Value(t, f.source, "SELECT pg_relation_filenode('big')"))}
	tk := &task{rel: &relation{table: cfg.Tables[0]}, pass: &pass{holder: h, facts: filenode}, span: span{0, 2}}
	_, err = w.chunk(f.context(), tk)
	require.True(t, recordExists(err), "the record's key keeps the chunk from landing twice: %v", err)
	tk.tries = 1
	_, err = w.chunk(f.context(), tk)
	require.NoError(t, err)
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM big"), "the recorded chunk was not copied again")
}

func parseOID(t *testing.T, s string) uint32 {
	var n uint32
	for _, r := range s {
		n = n*10 + uint32(r-'0')
	}
	require.NotZero(t, n)
	return n
}

func TestRowCountsThatDisagreeNeverCommit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL)
	f.fillBig(3000)
	pgtest.Exec(t, f.target, `CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.id = 1717 THEN RETURN NULL; END IF; RETURN NEW; END $$;
		CREATE TRIGGER swallow BEFORE INSERT ON big FOR EACH ROW EXECUTE FUNCTION swallow()`)
	cfg := f.config(false)
	cfg.ChunkBytes = 1 << 30
	err := f.copier(cfg).Run(f.context())
	require.ErrorIs(t, err, errDisagree)
	require.ErrorContains(t, err, "copy public.big: blocks 0 to the end: row counts differ: the source sent 3000, the target took 2999")
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM big"))
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM crossfade.chunk"))
	f.requireState(cfg.Tables[0], stateCopying)
}

func TestErrorOfTheTargetNamesTableAndReason(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL)
	f.fillBig(30_000)
	pgtest.Exec(t, f.target, "ALTER TABLE big ADD CHECK (id <> 12345)")
	err := f.copier(f.config(false)).Run(f.context())
	require.ErrorContains(t, err, "copy public.big: blocks")
	require.ErrorContains(t, err, "violates check constraint")
}

func TestLostSnapshotRestartsUnfinishedRelations(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL+`; CREATE TABLE small (id int)`)
	f.fillBig(30_000)
	pgtest.Exec(t, f.source, "INSERT INTO small SELECT generate_series(1, 10)")
	cfg := f.config(false)
	cfg.Jobs = 1
	h, err := snapshot.Export(f.context(), connector(f.sourceDSN, pg.WithName("test holder")))
	require.NoError(t, err)
	defer h.Close()
	cfg.Snapshot = h
	// The target's first chunk of big waits until the holder is dead and the source has moved on.
	lock := pgtest.Conn(t, f.targetDSN)
	pgtest.Exec(t, lock, "BEGIN; LOCK TABLE public.big IN ACCESS EXCLUSIVE MODE")
	stop := watch(func(context.Context) {
		eventually(t, func() bool {
			return pgtest.Value(t, f.target, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
		})
		pgtest.Exec(t, f.source, "UPDATE big SET t = 'new' WHERE id % 7 = 0")
		pgtest.Exec(t, f.source, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'crossfade test holder'")
		pgtest.Exec(t, lock, "COMMIT")
	})
	c := f.copier(cfg)
	err = c.Run(f.context())
	stop()
	require.NoError(t, err)
	require.Positive(t, c.Progress().Restarts)
	f.requireEqual("big")
	f.requireEqual("small")
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM crossfade.relation WHERE snapshot = $1", h.Text()))
}

func TestSecondCopierIsShutOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL)
	f.fillBig(2000)
	cfg := f.config(false)
	c := f.copier(cfg)
	h, err := snapshot.Export(f.context(), cfg.Source)
	require.NoError(t, err)
	defer h.Close()
	pgtest.Exec(t, f.target, `INSERT INTO crossfade.relation (relid, nsp, rel, state, snapshot, filenode, attempt) VALUES ($1::oid, 'public', 'big', 'copying', 'another', 1, 1)`, cfg.Tables[0].OID)
	w := &worker{run: &run{cfg: &c.cfg, counters: &c.counters, yielder: snapshot.NewYielder(cfg.Source)}, bufs: relay.NewBuffers(1 << 16)}
	defer func() { snapshot.Close(w.source); snapshot.Close(w.target) }()
	_, err = w.chunk(f.context(), &task{rel: &relation{table: cfg.Tables[0]}, pass: &pass{holder: h}, span: span{0, toEnd}})
	require.ErrorIs(t, err, errStale)
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM big"))
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	connect := connector(pg.DSN{})
	_, err := New(Config{Target: connect})
	require.ErrorContains(t, err, "no way to connect")
	table := Table{OID: 1, Name: pg.Name{Schema: "s", Name: "t"}}
	_, err = New(Config{Source: connect, Target: connect, Tables: []Table{table, table}})
	require.ErrorContains(t, err, "listed twice")
	_, err = New(Config{Source: connect, Target: connect, Jobs: -1})
	require.ErrorContains(t, err, "negative")
	require.True(t, strings.HasPrefix(table.copyOut(span{2, 4}), `COPY (SELECT  FROM ONLY "s"."t" WHERE ctid >= '(2,0)'`))
}
