package copy

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
)

// Where every table must be of one moment, Run ends rather than mix two.
func TestOneMomentOrNone(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"lost":      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'crossfade test holder'",
		"rewritten": "VACUUM FULL big",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, bigDDL)
			f.fillBig(9000)
			cfg := f.config(false)
			h, err := snapshot.Export(f.context(), connector(f.sourceDSN, pg.WithName("test holder")))
			require.NoError(t, err)
			defer h.Close()
			cfg.Snapshot, cfg.Jobs, cfg.OneMoment = h, 1, true
			gate := f.gateAfter(3)
			stop := watch(func(context.Context) {
				f.awaitGate()
				pgtest.Exec(t, f.source, sql)
				pgtest.Exec(t, gate, "SELECT pg_advisory_unlock(42)")
			})
			err = f.copier(cfg).Run(f.context())
			stop()
			require.ErrorIs(t, err, ErrMoment)
			require.Equal(t, "1", pgtest.Value(t, f.target, "SELECT count(DISTINCT snapshot) FROM crossfade.chunk"))
			if name == "lost" {
				require.ErrorIs(t, f.copier(cfg).Run(f.context()), ErrMoment)
			}
		})
	}
}

// A snapshot that is lost before the sizes of the tables were read is replaced at
// once, or ends the copy.
func TestASnapshotIsLostBeforeAnyTableBegins(t *testing.T) {
	t.Parallel()
	for name, once := range map[string]bool{"another is taken": false, "one moment": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, bigDDL)
			f.fillBig(900)
			cfg := f.config(false)
			h, err := snapshot.Export(f.context(), connector(f.sourceDSN, pg.WithName("test holder")))
			require.NoError(t, err)
			defer h.Close()
			killer := pgtest.Conn(t, f.sourceDSN)
			connect := cfg.Source
			var login sync.Once
			cfg.Snapshot, cfg.OneMoment = h, once
			cfg.Source = func(ctx context.Context) (*pgx.Conn, error) { // the first login is that which reads the sizes
				login.Do(func() {
					pgtest.Exec(t, killer, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'crossfade test holder'")
				})
				return connect(ctx)
			}
			c := f.copier(cfg)
			err = c.Run(f.context())
			if once {
				require.ErrorIs(t, err, ErrMoment)
				return
			}
			require.NoError(t, err)
			f.requireEqual("big")
		})
	}
}

// A fresh snapshot must see what the stream leaves out. A commit that decoding has
// seen and sessions have not is played by a transaction that is still open.
func TestAFreshSnapshotWaitsForWhatTheSlotHasSeen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	pgtest.Exec(t, f.source, "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i")
	cfg := f.followed(map[string][]string{"t": {"id"}})
	cfg.Snapshot.Close()
	cfg.Snapshot = nil
	app := pgtest.Conn(t, f.sourceDSN)
	pgtest.Exec(t, app, "BEGIN; UPDATE t SET v = 'seen by the slot' WHERE id = 1")
	next := pgtest.Value(t, app, "SELECT pg_current_xact_id()::text::bigint + 1")
	cfg.Stream.Snapshot = next + ":" + next + ":"
	refused := make(chan struct{})
	var logins atomic.Int32
	connect := cfg.Source
	cfg.Source = func(ctx context.Context) (*pgx.Conn, error) {
		if logins.Add(1) == 2 {
			close(refused) // the first snapshot was not taken for good
		}
		return connect(ctx)
	}
	stop := watch(func(context.Context) {
		<-refused
		pgtest.Exec(t, app, "COMMIT")
	})
	err := f.copier(cfg).Run(f.context())
	stop()
	require.NoError(t, err)
	f.requireEqual("t")
	require.Equal(t, "1", pgtest.Value(t, f.target, "SELECT count(*) FROM t WHERE v LIKE 'seen%'"))
}
