package daemon

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestTheFenceDoesWithTheConnectionsThatThereAre: where no further session is to be had, the
// pre-lock, which is a help, is left out, and the fence closes all the same.
func TestTheFenceDoesWithTheConnectionsThatThereAre(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBench(t)
	b.pause(1)
	b.src.pre.spare = b.src.control
	require.NoError(t, b.src.confirm(ctx, false)) // which has its own
	require.NoError(t, b.src.census.Do(ctx, func(context.Context, *pgx.Conn) error { return nil }))
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"))
	pgtest.Exec(t, admin, "ALTER ROLE "+b.sourceDSN.User()+" CONNECTION LIMIT 0")
	lost := ""
	require.NoError(t, b.src.Prelock(ctx, 1, func(why string) { lost = why }))
	require.Contains(t, lost, "too many connections for role")
	_, err := b.src.Fence(ctx, 1, "nonce")
	require.NoError(t, err)
	f, _ := b.sourceState()
	require.True(t, f.Closed())
	pgtest.Exec(t, admin, "ALTER ROLE "+b.sourceDSN.User()+" CONNECTION LIMIT -1")
}
