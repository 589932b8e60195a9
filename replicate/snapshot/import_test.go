package snapshot_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
)

// TestAnIdentifierThatIsGivenAgain restarts the server and exports snapshots until one has the
// identifier of a snapshot that the restart has ended.
func TestAnIdentifierThatIsGivenAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := pgtest.Own(t, pgtest.Source)
	connect := func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, c.AdminDSN("postgres")) }
	// Sessions of ours have the slots below: after the restart processes of the server's own
	// may have them.
	var below []*pgx.Conn
	for range 8 {
		conn, err := connect(ctx)
		require.NoError(t, err)
		below = append(below, conn)
	}
	old, err := snapshot.Export(ctx, func(ctx context.Context) (*pgx.Conn, error) {
		conn, err := connect(ctx)
		for n := 0; err == nil && n < 20; n++ { // so that its number is still to come after the restart
			_, err = conn.Exec(ctx, "SELECT 1")
		}
		return conn, err
	})
	require.NoError(t, err)
	defer old.Close()
	for _, conn := range below {
		require.NoError(t, conn.Close(ctx))
	}
	require.NoError(t, c.Restart(ctx, pgcluster.Immediate))
	writer, err := connect(ctx)
	require.NoError(t, err)
	pgtest.Exec(t, writer, "CREATE TABLE public.later (id int)")
	require.NoError(t, writer.Close(ctx))

	// An identifier names the backend's slot and the number of its transaction, which
	// starts again from the beginning for each slot.
	found := false
	var sessions []*pgx.Conn
	for range 20 {
		conn, err := connect(ctx)
		require.NoError(t, err)
		sessions = append(sessions, conn)
		for range 60 {
			var id string
			pgtest.Exec(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
			require.NoError(t, conn.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&id))
			if found = id == old.ID(); found {
				break
			}
			pgtest.Exec(t, conn, "ROLLBACK")
		}
		if found {
			break
		}
	}
	require.True(t, found, "no snapshot has the identifier %s", old.ID())

	writer, err = connect(ctx)
	require.NoError(t, err)
	require.NoError(t, snapshot.Begin(ctx, writer, old.ID(), time.Second), "the server does not know better")
	pgtest.Exec(t, writer, "ROLLBACK")
	err = old.Begin(ctx, writer, time.Second)
	require.ErrorIs(t, err, snapshot.ErrLost)
	require.ErrorContains(t, err, "was restarted")
	pgtest.Exec(t, writer, "CREATE TABLE public.latest (id int)") // no transaction is left open
	for _, conn := range append(sessions, writer) {
		require.NoError(t, conn.Close(ctx))
	}
}
