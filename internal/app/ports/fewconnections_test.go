package ports_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestTheFenceDoesWithTheConnectionsThatThereAre: where no further session is to be had, the
// pre-lock, which is a help, is left out, and the fence closes all the same.
func TestTheFenceDoesWithTheConnectionsThatThereAre(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := apptest.NewPortsFixture(t)
	b.Pause(1)
	b.SourcePort.Lock.Spare = b.SourcePort.Control
	require.NoError(t, b.SourcePort.Confirm(ctx, false)) // which has its own
	require.NoError(t, b.SourcePort.Counting.Do(ctx, func(context.Context, *pgx.Conn) error { return nil }))
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"))
	pgtest.Exec(t, admin, "ALTER ROLE "+b.SourceDSN.User()+" CONNECTION LIMIT 0")
	lost := ""
	require.NoError(t, b.SourcePort.Prelock(ctx, 1, func(why string) { lost = why }))
	require.Contains(t, lost, "too many connections for role")
	_, err := b.SourcePort.Fence(ctx, 1, "nonce")
	require.NoError(t, err)
	f, _ := b.SourceState()
	require.True(t, f.Shut && f.Enabled == f.Tables, "%+v", f)
	pgtest.Exec(t, admin, "ALTER ROLE "+b.SourceDSN.User()+" CONNECTION LIMIT -1")
}
