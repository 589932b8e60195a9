package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// A table that always some writer holds is fenced, and loses its fence, while the writers are held.
func TestATableWhoseWritersOverlapIsFencedInQuiet(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pgtest.Exec(t, b.source, `DROP TRIGGER `+journal.FenceTrigger+` ON public.a`)
	writer := pgtest.Conn(t, b.sourceDSN)
	var asked int
	b.src.quiet = func(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
		asked++
		require.Equal(t, testLockTimeout/2, limit, "the hold and the wait for the lock share the bound")
		pgtest.Exec(t, writer, "COMMIT")
		defer pgtest.Exec(t, writer, "BEGIN; UPDATE public.a SET v = 'x'")
		return do(ctx)
	}
	pgtest.Exec(t, writer, "BEGIN; UPDATE public.a SET v = 'x'")
	plan, err := b.src.PrepareFence(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, plan.Tables)
	require.Equal(t, 1, asked)

	n, err := journal.DropFence(ctx, b.source, b.src.quiet.patience(b.src.reading, testLockTimeout))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 2, asked)
	pgtest.Exec(t, writer, "COMMIT")
	require.NoError(t, b.src.quiet.patience(b.src.reading, testLockTimeout).Quiet(ctx, pg.Name{Schema: "public", Name: "a"}, func(_ context.Context, wait time.Duration) error {
		require.Equal(t, testLockTimeout/2, wait)
		return nil
	}))
}
