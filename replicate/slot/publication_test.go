package slot_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/slot"
)

func names(tables ...string) []pg.Name {
	var all []pg.Name
	for _, t := range tables {
		all = append(all, pg.Name{Schema: "public", Name: t})
	}
	return all
}

func published(t *testing.T, conn *pgx.Conn, name string) []pg.Name {
	tables, err := slot.PublishedTables(t.Context(), conn, name)
	require.NoError(t, err)
	return tables
}

const tables = `SET search_path = public; CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE "b ""c" (id int PRIMARY KEY);
	CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
	CREATE TABLE root (id int) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10)`

func TestPublicationHoldsExactlyTheList(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, tables)
	cfg := slot.PublicationConfig{Name: `cross"fade`, Tables: names("a", `b "c`, "parent", "leaf")}
	for range 2 { // as after a restart
		require.NoError(t, slot.EnsurePublication(t.Context(), conn, cfg))
		require.Equal(t, names("a", `b "c`, "leaf", "parent"), published(t, conn, cfg.Name))
	}
	require.Equal(t, "f", pgtest.Value(t, conn, "SELECT pubviaroot::text::\"char\" FROM pg_publication"))
	cfg.Tables = names("a", "child")
	require.NoError(t, slot.EnsurePublication(t.Context(), conn, cfg))
	require.Equal(t, names("a", "child"), published(t, conn, cfg.Name))

	require.NoError(t, slot.DropPublication(t.Context(), conn, cfg.Name))
	require.NoError(t, slot.DropPublication(t.Context(), conn, cfg.Name))
	require.Empty(t, published(t, conn, cfg.Name))
}

func TestLockedTableIsNamedAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn, app := pgtest.Conn(t, dsn), pgtest.Conn(t, dsn, pg.WithName("vacuum cleaner"))
	pgtest.Exec(t, conn, tables)
	pgtest.Exec(t, app, "BEGIN; LOCK TABLE public.a IN SHARE UPDATE EXCLUSIVE MODE")
	cfg := slot.PublicationConfig{Name: "p", Tables: names("a", "leaf"), Patience: time.Second}
	err := slot.EnsurePublication(t.Context(), conn, cfg)
	require.ErrorContains(t, err, `public.a by pid`)
	require.ErrorContains(t, err, `application "crossfade vacuum cleaner"`)
	require.Equal(t, names("leaf"), published(t, conn, "p"))
	require.Equal(t, byte('I'), conn.PgConn().TxStatus())

	// The lock goes away while it is asked for again and again.
	cfg.Patience = pgtest.Timeout
	done := make(chan error, 1)
	go func() { done <- slot.EnsurePublication(t.Context(), conn, cfg) }()
	probe := pgtest.Conn(t, dsn)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, probe, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.a'::regclass") == "1"
	}, pgtest.Timeout, 5*time.Millisecond)
	pgtest.Exec(t, app, "COMMIT")
	require.NoError(t, <-done)
	require.Equal(t, names("a", "leaf"), published(t, conn, "p"))
}

func TestPublicationOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, tables)
	pgtest.Exec(t, conn, "CREATE PUBLICATION p FOR TABLE public.a WITH (publish = 'insert')")
	err := slot.EnsurePublication(t.Context(), conn, slot.PublicationConfig{Name: "p", Tables: names("a")})
	require.ErrorContains(t, err, "is not ours")
}

func TestMissingTableEndsAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	start := time.Now()
	err := slot.EnsurePublication(t.Context(), conn, slot.PublicationConfig{Name: "p", Tables: names("gone")})
	require.Equal(t, pg.CodeUndefinedTable, pg.Code(err))
	require.Less(t, time.Since(start), 20*time.Second)
	require.Error(t, slot.EnsurePublication(t.Context(), conn, slot.PublicationConfig{}))
}
