package ports_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
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
			b := apptest.NewPortsFixture(t)
			b.Pause(1)
			// Before the fence is closed its triggers are nobody's business.
			pgtest.Exec(t, b.Source, off+on+off)
			require.NoError(t, b.SourcePort.Confirm(ctx, false))
			_, err := b.SourcePort.Fence(ctx, 1, "nonce")
			require.NoError(t, err)
			// From the second epoch on its triggers are enabled already when it is closed.
			require.NoError(t, b.SourcePort.Unfence(ctx, 1))
			b.Pause(2)
			_, err = b.SourcePort.Fence(ctx, 2, "another nonce")
			require.NoError(t, err)
			_, err = b.SourcePort.Fingerprint(ctx)
			require.NoError(t, err)
			pgtest.Exec(t, b.Source, c.sql)
			_, err = b.SourcePort.Fingerprint(ctx)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "the fence of the source was changed")
			var stops *watch.WatchedError
			require.ErrorAs(t, err, &stops)
			require.Len(t, stops.Blockers, 1, "told once")
			require.Equal(t, "fence_changed", stops.Blockers[0].Code)
			require.ErrorContains(t, err, c.says)
			require.NoError(t, b.SourcePort.Unfence(ctx, 2))
			require.NoError(t, b.SourcePort.Confirm(ctx, false))
			_, err = b.SourcePort.Fingerprint(ctx)
			require.NoError(t, err, "nor when it is open again")
			require.Contains(t, stops.Blockers[0].Remedy, "ask for the cutover again")
			require.NoError(t, journal.PrepareFence(ctx, b.Source, apptest.Patience, false)) // as while arming
			b.Pause(3)
			_, err = b.SourcePort.Fence(ctx, 3, "nonce of the next")
			require.NoError(t, err)
			_, err = b.SourcePort.Fingerprint(ctx)
			require.NoError(t, err, "each one closes the fence once more")
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
			b := apptest.NewPortsFixture(t)
			require.NoError(t, journal.Seal(ctx, b.Target), "as a start that was cut short")
			require.NoError(t, b.SourcePort.Confirm(ctx, true))
			pgtest.Exec(t, b.Target, c.sql)
			for _, fenced := range []bool{false, true} {
				err := b.SourcePort.Confirm(ctx, fenced)
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}

func TestASubscriptionThatWasDisabledStopsTheCutoverWhileItsWorkerWrites(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := apptest.NewPortsFixture(t)
	cluster := pgtest.Shared(t, pgtest.Source)
	feed := pgtest.Database(t, cluster)
	from := pgtest.Conn(t, cluster.AdminDSN(feed.Database()))
	super := pgtest.Conn(t, cluster.AdminDSN(b.SourceDSN.Database()))
	name := "feed_" + feed.Database()
	pgtest.Exec(t, from, "CREATE TABLE public.a (id int PRIMARY KEY, v text); CREATE PUBLICATION feed FOR TABLE public.a")
	pgtest.Exec(t, from, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
	info, _ := cluster.AdminDSN(feed.Database()).LibpqEnv()
	info += " password='" + cluster.AdminDSN(feed.Database()).Password() + "'"
	pgtest.Exec(t, super, "CREATE SUBSCRIPTION "+name+" CONNECTION "+pg.QuoteLiteral(info)+" PUBLICATION feed WITH (create_slot = false, copy_data = false)")
	t.Cleanup(func() {
		pgtest.Exec(t, super, "ROLLBACK; ALTER SUBSCRIPTION "+name+" DISABLE; ALTER SUBSCRIPTION "+name+" SET (slot_name = NONE); DROP SUBSCRIPTION "+name)
		last := pgtest.Conn(t, cluster.AdminDSN(feed.Database()))
		require.Eventually(t, func() bool {
			return pgtest.Value(t, last, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", name) == "false"
		}, pgtest.Timeout, 10*time.Millisecond)
		pgtest.Exec(t, last, "SELECT pg_drop_replication_slot($1)", name)
	})
	holder := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, holder, "BEGIN; LOCK TABLE public.a IN EXCLUSIVE MODE")
	pgtest.Exec(t, from, "INSERT INTO public.a VALUES (77, 'fed')")
	require.Eventually(t, func() bool {
		return pgtest.Value(t, super, "SELECT count(*) FROM pg_locks l JOIN pg_stat_subscription s USING (pid) WHERE NOT l.granted AND s.subname = $1", name) == "1"
	}, pgtest.Timeout, 10*time.Millisecond)
	pgtest.Exec(t, super, "ALTER SUBSCRIPTION "+name+" DISABLE")
	require.ErrorContains(t, b.SourcePort.Control.Do(ctx, b.Cover.Check), "subscription "+name+" writes the source")
	pgtest.Exec(t, holder, "ROLLBACK")
	require.Eventually(t, func() bool { return b.SourcePort.Control.Do(ctx, b.Cover.Check) == nil }, pgtest.Timeout, 10*time.Millisecond)
}
