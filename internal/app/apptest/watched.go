package apptest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/definitions"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
)

// watched are the definitions of two databases whose schema was moved.
type watched struct {
	t              *testing.T
	Comparer       *definitions.Comparer
	Source, Target *pgx.Conn
	SourceDSN      pg.DSN
}

// NewWatched moves a schema that sql makes.
func NewWatched(t *testing.T, sql string) *watched {
	t.Helper()
	ctx := context.Background()
	w := &watched{t: t, SourceDSN: pgtest.Database(t, pgtest.Shared(t, pgtest.Source))}
	TargetDSN := pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	w.Source, w.Target = pgtest.Conn(t, w.SourceDSN), pgtest.Conn(t, TargetDSN, pg.WithKey("k"))
	pgtest.Exec(t, w.Source, sql)
	require.NoError(t, journal.InstallTarget(ctx, w.Target, journal.TargetRun{RunID: "r", Key: "k", Mode: runs.ModeRun}))
	run, err := journal.LoadTarget(ctx, w.Target)
	require.NoError(t, err)
	m := migration.New(migration.Config{Source: w.SourceDSN, Target: TargetDSN, Identity: runs.Identity{Target: run}, Jobs: 1, LockTimeout: LockTimeout, Log: zerolog.Nop(),
		Roles: map[string]string{w.SourceDSN.User(): TargetDSN.User()}})
	held, err := snapshot.Export(ctx, m.Task.ConnectSource)
	require.NoError(t, err)
	defer held.Close()
	kept, err := m.Schema.DefinitionsAt(ctx, held)
	require.NoError(t, err)
	kept.Archive, err = archive.Dump(ctx, m.Schema.Dumping(w.SourceDSN, held.ID()))
	require.NoError(t, err)
	require.NoError(t, journal.KeepDefinitions(ctx, w.Target, kept))
	m.Task.Identity.Target, err = journal.LoadTarget(ctx, w.Target)
	require.NoError(t, err)
	require.NoError(t, m.Schema.LoadPlan(ctx, w.Target, held))
	require.NoError(t, m.Schema.Restore(ctx, plan.PreData, []*pgx.Conn{w.Target}))
	require.NoError(t, m.Schema.Restore(ctx, plan.AfterCopy, []*pgx.Conn{w.Target}))
	linked := func(d pg.DSN, opts ...pg.Option) *dbconn.Link {
		l := dbconn.New(d, opts...)
		t.Cleanup(l.Close)
		return l
	}
	w.Comparer = definitions.New(m, linked(w.SourceDSN), linked(TargetDSN, pg.WithKey("k")), [2]*dbconn.Link{linked(w.SourceDSN), linked(TargetDSN)}, zerolog.Nop())
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Comparer.Run(running) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return w
}

// Told is what a question finds.
func (w *watched) Told(ask func(context.Context, *pgx.Conn, *pgx.Conn) ([]watch.Notice, error)) []string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	found, err := ask(ctx, w.Source, w.Target)
	require.NoError(w.t, err)
	var out []string
	for _, n := range found {
		out = append(out, n.Code+": "+n.Detail)
	}
	return out
}

// WatchedTables is a schema to begin with.
const WatchedTables = `CREATE TABLE public.a (id int PRIMARY KEY, v text, w text); CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`
