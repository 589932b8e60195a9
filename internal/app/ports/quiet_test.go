package ports_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// A table that always some writer holds is fenced, and loses its fence, while the writers are held.
func TestATableWhoseWritersOverlapIsFencedInQuiet(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pgtest.Exec(t, b.Source, `DROP TRIGGER `+journal.FenceTrigger+` ON public.a`)
	writer := pgtest.Conn(t, b.SourceDSN)
	var asked int
	b.SourcePort.Quiet = func(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
		asked++
		require.Equal(t, apptest.LockTimeout/2, limit, "the hold and the wait for the lock share the bound")
		pgtest.Exec(t, writer, "COMMIT")
		defer pgtest.Exec(t, writer, "BEGIN; UPDATE public.a SET v = 'x'")
		return do(ctx)
	}
	pgtest.Exec(t, writer, "BEGIN; UPDATE public.a SET v = 'x'")
	plan, err := b.SourcePort.PrepareFence(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, plan)
	require.Equal(t, 1, asked)

	n, err := journal.DropFence(ctx, b.Source, b.SourcePort.Quiet.Patience(b.SourcePort.Reading, apptest.LockTimeout))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 2, asked)
	pgtest.Exec(t, writer, "COMMIT")
	require.NoError(t, b.SourcePort.Quiet.Patience(b.SourcePort.Reading, apptest.LockTimeout).Quiet(ctx, pg.Name{Schema: "public", Name: "a"}, func(_ context.Context, wait time.Duration) error {
		require.Equal(t, apptest.LockTimeout/2, wait)
		return nil
	}))
}
