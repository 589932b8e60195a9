package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/check"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/oneshot"
	"crossfade/internal/app/options"
	"crossfade/internal/app/undo"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// secondName returns another connection string of the same database.
func secondName(t *testing.T, d pg.DSN) pg.DSN {
	t.Helper()
	other, err := pg.ParseDSN(fmt.Sprintf("postgresql://%s:%s@localhost:%d/%s?sslmode=disable", d.User(), d.Password(), d.Port(), d.Database()))
	require.NoError(t, err)
	require.NotEqual(t, d.Address(), other.Address())
	return other
}

func runConfig(t *testing.T, source, target pg.DSN) options.Run {
	t.Helper()
	return options.Run{Source: source, Target: target, Listen: "127.0.0.1:0", Control: filepath.Join(t.TempDir(), "c"), Jobs: 1,
		SourceLockTimeout: apptest.LockTimeout, HoldLimit: apptest.LockTimeout, ShutdownTimeout: apptest.LockTimeout}
}

// Every command that writes refuses two names of one database before it writes.
func TestNoCommandWritesUnderTwoNamesOfOneDatabase(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, `CREATE TABLE public.kept (id int PRIMARY KEY); INSERT INTO public.kept SELECT generate_series(1, 1000)`)
	other := secondName(t, dsn)
	for _, target := range []pg.DSN{other, dsn} {
		for name, command := range map[string]func(ctx context.Context) error{
			"copy": func(ctx context.Context) error {
				_, err := oneshot.Copy(ctx, dsn, target, options.Copy{Jobs: 1}, zerolog.Nop(), nil)
				return err
			},
			"copy --clean": func(ctx context.Context) error {
				_, err := oneshot.Copy(ctx, dsn, target, options.Copy{Jobs: 1, Clean: true, Allow: func(context.Context, options.Removal) error { return nil }}, zerolog.Nop(), nil)
				return err
			},
			"copy --data-only": func(ctx context.Context) error {
				_, err := oneshot.Copy(ctx, dsn, target, options.Copy{Jobs: 1, DataOnly: true}, zerolog.Nop(), nil)
				return err
			},
			"run": func(ctx context.Context) error {
				return Run(ctx, runConfig(t, dsn, target), zerolog.Nop(), nil)
			},
			"recover": func(ctx context.Context) error { _, err := undo.Recover(ctx, dsn, target); return err },
			"clean":   func(ctx context.Context) error { return undo.Clean(ctx, dsn, target, true, func(string) {}) },
			"finish": func(ctx context.Context) error {
				d := bare(func(d *daemon) { d.core.cfg = options.Run{Source: dsn, Target: target} })
				return d.finisher.drop(ctx, true, &control.FinishReport{})
			},
		} {
			err := command(t.Context())
			require.ErrorAs(t, err, new(*onedatabase.Error), name)
			require.NotContains(t, err.Error(), "\n", name)
			require.Equal(t, "1000", pgtest.Value(t, conn, `SELECT count(*) FROM public.kept`), name)
			require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade'`), name)
		}
		report, err := check.Run(t.Context(), options.Run{Source: dsn, Target: target}, nil)
		require.NoError(t, err)
		require.Contains(t, report.Findings[0].Code, "one_database", "it comes first: %v", report.Findings)
	}
}

// A name of the target that leads to the source since the run began, as a DNS entry or a
// list of hosts may, is noticed before the fence is made.
func TestACutoverRefusesATargetThatHasBecomeTheSource(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	source, target := dbconn.New(dsn), dbconn.New(secondName(t, dsn))
	t.Cleanup(source.Close)
	t.Cleanup(target.Close)
	d := bare(func(d *daemon) {
		d.watches.cover = &watch.Coverage{}
		d.core.migration = migration.New(migration.Config{})
	})
	watchers := d.watchers()
	require.Equal(t, "whether source and target are still two databases", watchers[0].Name, "it is asked first")
	w := watch.New(source, target, zerolog.Nop(), watchers[:1]...)
	var stops *watch.WatchedError
	require.ErrorAs(t, w.Confirm(t.Context(), false), &stops)
	require.Len(t, stops.Blockers, 1, "told once")
	require.Equal(t, "one_database", stops.Blockers[0].Code)
	require.Contains(t, stops.Blockers[0].Detail, "lead to one database")
	require.ErrorAs(t, w.Apart(t.Context()), new(*onedatabase.Error))
	other := dbconn.New(pgtest.Database(t, pgtest.Shared(t, pgtest.Target))) // the name leads where it should
	t.Cleanup(other.Close)
	w = watch.New(source, other, zerolog.Nop(), watchers[:1]...)
	require.NoError(t, w.Confirm(t.Context(), false), "asked of two databases")
	require.Empty(t, w.Blocked(true))
}

// What comes to the target while someone reads the list was not agreed to.
func TestCopyDropsNothingThatWasNotListed(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	pgtest.Exec(t, pgtest.Conn(t, source), `CREATE TABLE public.a (id int PRIMARY KEY); CREATE TABLE public.b (id int PRIMARY KEY)`)
	conn := pgtest.Conn(t, target)
	pgtest.Exec(t, conn, `CREATE TABLE public.a (mine int); INSERT INTO public.a SELECT generate_series(1, 1000)`)
	var listed []options.Existing
	opts := options.Copy{Jobs: 1, Clean: true, Schema: options.Schema{NoOwner: true}, Allow: func(_ context.Context, r options.Removal) error {
		listed = r.Objects
		pgtest.Exec(t, conn, `CREATE TABLE public.b (mine int)`)
		return nil
	}}
	_, err := oneshot.Copy(t.Context(), source, target, opts, zerolog.Nop(), nil)
	require.ErrorContains(t, err, "TABLE public.b has come")
	require.Len(t, listed, 1)
	require.Equal(t, "public.a", listed[0].Name)
	require.Greater(t, listed[0].Size, int64(8192))
	require.Equal(t, "1000", pgtest.Value(t, conn, `SELECT count(mine) FROM public.a`))
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade'`))

	opts.Allow = func(context.Context, options.Removal) error { return nil }
	_, err = oneshot.Copy(t.Context(), source, target, opts, zerolog.Nop(), nil)
	require.NoError(t, err)
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(id) FROM public.a`))
}
