package daemon

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/journal"
	"crossfade/internal/pgcluster/pgtest"
)

func TestAFenceThatWasOpenForAMomentStopsTheCutover(t *testing.T) {
	t.Parallel()
	const off, on = "ALTER TABLE public.a DISABLE TRIGGER zz_crossfade_fence;", "ALTER TABLE public.a ENABLE ALWAYS TRIGGER zz_crossfade_fence;"
	for name, c := range map[string]struct{ sql, says string }{
		"nothing":                    {"SELECT 1", ""},
		"disabled and enabled again": {off + "INSERT INTO public.a VALUES (99, 'z');" + on, "public.a"},
		"all triggers of a table":    {"ALTER TABLE public.b DISABLE TRIGGER USER; ALTER TABLE public.b ENABLE TRIGGER USER", "public.b"},
		"dropped and made again": {"DROP TRIGGER zz_crossfade_fence ON public.a; CREATE TRIGGER zz_crossfade_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON public.a FOR EACH STATEMENT EXECUTE FUNCTION crossfade.fence();" + on,
			"public.a"},
		"dropped":                  {"DROP TRIGGER zz_crossfade_fence ON public.a", "was dropped"},
		"its function is replaced": {journal.OpenFence + "INSERT INTO public.a VALUES (99, 'z');" + journal.ShutFence, "crossfade.fence()"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			b := newBench(t)
			b.pause(1)
			// Before the fence is closed its triggers are nobody's business.
			pgtest.Exec(t, b.source, off+on+off)
			_, err := b.src.Fence(ctx, 1, "nonce")
			require.NoError(t, err)
			// From the second epoch on its triggers are enabled already when it is closed.
			require.NoError(t, b.src.Unfence(ctx, 1))
			b.pause(2)
			_, err = b.src.Fence(ctx, 2, "another nonce")
			require.NoError(t, err)
			_, err = b.src.Fingerprint(ctx)
			require.NoError(t, err)
			pgtest.Exec(t, b.source, c.sql)
			_, err = b.src.Fingerprint(ctx)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "the fence of the source was changed")
			require.ErrorContains(t, err, c.says)
			require.NoError(t, b.src.Unfence(ctx, 2))
			_, err = b.src.Fingerprint(ctx)
			require.NoError(t, err, "nor when it is open again")
		})
	}
}

func TestATargetWhoseFenceWasOpenForAMomentStopsTheCutover(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, says string }{
		"disabled and enabled again": {"ALTER TABLE public.a DISABLE TRIGGER zz_crossfade_fence; DELETE FROM public.a; ALTER TABLE public.a ENABLE ALWAYS TRIGGER zz_crossfade_fence", "table public.a on the target"},
		"its table is made again":    {"CREATE TABLE public.c (LIKE public.b INCLUDING ALL); DROP TABLE public.b; ALTER TABLE public.c RENAME TO b", "table public.b on the target"},
		"its function is replaced":   {journal.OpenFence + "DELETE FROM public.a;" + journal.ShutFence, "crossfade.fence()"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			b := newBench(t)
			require.NoError(t, journal.Seal(ctx, b.target), "as a start that was cut short")
			require.NoError(t, b.src.confirm(ctx, true))
			pgtest.Exec(t, b.target, c.sql)
			for _, fenced := range []bool{false, true} {
				err := b.src.confirm(ctx, fenced)
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}
