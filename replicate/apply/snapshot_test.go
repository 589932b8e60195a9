package apply_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// snapshots gives the source's snapshot of this moment to relations.
func (w *world) snapshots(relations ...string) map[uint32]pg.Snapshot {
	w.t.Helper()
	m := map[uint32]pg.Snapshot{}
	for _, rel := range relations {
		snap, err := pg.ParseSnapshot(pgtest.Value(w.t, w.src, `SELECT pg_current_snapshot()`))
		require.NoError(w.t, err)
		oid, err := strconv.ParseUint(pgtest.Value(w.t, w.src, `SELECT $1::text::regclass::oid`, rel), 10, 32)
		require.NoError(w.t, err)
		m[uint32(oid)] = snap
	}
	return m
}

func TestTransactionsThatTheCopyHasSeenAreLeftOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int)`, ``)
	w.do(`INSERT INTO a VALUES (0, 0)`)
	w.do(`TRUNCATE a`)
	open := pgtest.Conn(t, w.source)
	pgtest.Exec(t, open, `BEGIN; INSERT INTO a VALUES (3, 3); INSERT INTO b VALUES (3, 3)`)
	// One transaction: of both tables, seen by the copy of a only.
	w.do(`BEGIN; INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); COMMIT; INSERT INTO a VALUES (2, 2)`)
	snaps := w.snapshots("a")
	pgtest.Exec(t, w.dst, `INSERT INTO a VALUES (1, 1), (2, 2)`) // the copy under that snapshot
	pgtest.Exec(t, open, `COMMIT`)                               // in the snapshot's list of those in progress
	w.do(`UPDATE a SET v = v + 10; UPDATE b SET v = v + 10`)
	r := w.follow(func(c *apply.Config) { c.Snapshots = snaps })
	w.drain(r)
	w.same("a", "b")
}

func TestLoadSnapshots(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	pgtest.Exec(t, w.dst, `INSERT INTO crossfade.relation (relid, nsp, rel, snapshot, state) VALUES
		(4000000000, 'public', 'a', '5:9:6', 'copied'), (2, 'public', 'b', NULL, 'pending')`)
	snaps, err := apply.LoadSnapshots(context.Background(), w.dst)
	require.NoError(t, err)
	require.Equal(t, map[uint32]pg.Snapshot{4000000000: {Xmin: 5, Xmax: 9, Xip: []uint64{6}}}, snaps)
}

// A commit can be in the stream before a new snapshot sees it: here a missing synchronous standby
// holds the transaction in the list of those in progress. Its LSN is smaller than any position read
// with the snapshot; only the transaction's number tells that the copy lacks it.
func TestATransactionThatIsDecodedButNotYetVisible(t *testing.T) {
	t.Parallel()
	source := pgtest.Own(t, pgtest.Source)
	w := &world{t: t, source: pgtest.Database(t, source), target: pgtest.Database(t, pgtest.Shared(t, pgtest.Target))}
	local := pg.WithParam("synchronous_commit", "local")
	w.src, w.dst = pgtest.Conn(t, w.source, local), pgtest.Conn(t, w.target)
	w.setUp(`CREATE TABLE a (id int PRIMARY KEY, v int)`, `INSERT INTO a VALUES (1, 1)`)

	admin := pgtest.Conn(t, source.AdminDSN("postgres"))
	pgtest.Exec(t, admin, `ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
	pgtest.Exec(t, admin, `SELECT pg_reload_conf()`)
	stuck := pgtest.Conn(t, w.source)
	// The cluster's helpers must be able to commit at the end.
	defer pgtest.Exec(t, admin, `SELECT pg_reload_conf()`)
	defer pgtest.Exec(t, admin, `ALTER SYSTEM RESET synchronous_standby_names`)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, stuck, `SELECT current_setting('synchronous_standby_names')`) == "nobody"
	}, pgtest.Timeout, time.Millisecond)
	xids := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, err := stuck.Exec(ctx, `UPDATE a SET v = 2`)
		xids <- err
	}()
	require.Eventually(t, func() bool {
		return pgtest.Value(t, w.src, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'`) == "1"
	}, pgtest.Timeout, 2*time.Millisecond)
	require.Equal(t, "1", pgtest.Value(t, w.src, `SELECT v FROM a`), "not visible yet")
	snaps := w.snapshots("a") // and the copy under it is what the target has
	r := w.follow(func(c *apply.Config) { c.Snapshots = snaps; c.SourceOptions = []pg.Option{local} })
	w.drain(r)
	require.Equal(t, "2", pgtest.Value(t, w.dst, `SELECT v FROM a`))
	cancel()
	<-xids
}
