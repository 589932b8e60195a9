package daemon

import (
	"bytes"
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// standingAndConfirmed are the codes that the status shows, and those that refuse a cutover.
func standingAndConfirmed(t *testing.T, w *watch.List) (shown, refused []control.Blocker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pgtest.Timeout)
	defer cancel()
	for _, fenced := range []bool{false, true} {
		var stops *watch.WatchedError
		if err := w.Confirm(ctx, fenced); err != nil {
			require.ErrorAs(t, err, &stops)
			refused = stops.Blockers
		}
	}
	return w.Blocked(true), refused
}

// A table that was made or renamed is not followed. That its definition is not on the target
// follows from it, and the statement that would make it there would not have it followed.
func TestATableThatIsNotFollowedIsToldOnceWithTheRemedyThatHelps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, sql string }{
		{"made", `CREATE TABLE public.made (id int PRIMARY KEY, v text DEFAULT 'x'); CREATE INDEX made_v ON public.made (v); COMMENT ON TABLE public.made IS 'new'`},
		{"renamed", `ALTER TABLE public.a RENAME TO other`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := apptest.NewWatched(t, apptest.WatchedTables)
			cover := &watch.Coverage{}
			var oid uint32
			require.NoError(t, w.Source.QueryRow(t.Context(), `SELECT 'public.a'::regclass::oid`).Scan(&oid))
			cover.Set(map[uint32]watch.CoveredTable{oid: {Name: pg.Name{Schema: "public", Name: "a"}, Followed: true}})
			source, target := dbconn.New(w.SourceDSN), dbconn.New(w.Comparer.Migration.Task.Target, pg.WithKey("k"))
			t.Cleanup(source.Close)
			t.Cleanup(target.Close)
			var logged bytes.Buffer
			list := watch.New(source, target, zerolog.New(&logged), watch.Watcher{Name: "tables", Fenced: true, Ask: cover.Ask},
				watch.Watcher{Name: "definitions", Fenced: true, Every: 2, Ask: w.Comparer.Ask})
			shown, refused := standingAndConfirmed(t, list)
			require.Empty(t, shown)
			require.Empty(t, refused)

			pgtest.Exec(t, w.Source, c.sql)
			shown, refused = standingAndConfirmed(t, list)
			for _, found := range [][]control.Blocker{refused, shown} {
				require.Len(t, found, 1, "%v", found)
				require.Equal(t, "not_followed", found[0].Code)
			}
			for range 2 {
				require.NoError(t, list.Poll(t.Context(), false))
			}
			require.Equal(t, []string{"not_followed"}, loggedCodes(logged.String()))
			apptest.Typed(t, w.Source, refused[0].Remedy, "source")
			shown, refused = standingAndConfirmed(t, list)
			require.Empty(t, refused)
			require.Empty(t, shown)

			// Of a difference that has no other cause the log tells in the next round.
			pgtest.Exec(t, w.Source, "ALTER TABLE public.a ADD COLUMN more int")
			for end := time.Now().Add(pgtest.Timeout); len(loggedCodes(logged.String())) < 2 && time.Now().Before(end); {
				require.NoError(t, list.Poll(t.Context(), false)) // the comparison may take more than one round
			}
			require.Equal(t, []string{"not_followed", "definition_differs"}, loggedCodes(logged.String()))
		})
	}
}

// A large object that was made has bytes that were written: one cause, told once.
func TestALargeObjectThatWasMadeIsToldOnce(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	b.readable()
	pgtest.Exec(t, b.Source, `SELECT lo_from_bytea(101, 'one')`)
	require.NoError(t, b.m.Extras.Extras(t.Context(), nil))
	source, target := dbconn.New(b.SourceDSN), dbconn.New(b.TargetDSN, pg.WithKey("k"))
	t.Cleanup(source.Close)
	t.Cleanup(target.Close)
	d := bare(func(d *daemon) { d.watches.cover = &watch.Coverage{}; d.core.migration = b.m })
	var both []watch.Watcher
	for _, w := range d.watchers() {
		if w.Name == "large objects" || w.Name == "bytes of large objects" {
			both = append(both, w)
		}
	}
	require.Len(t, both, 2)
	list := watch.New(source, target, zerolog.Nop(), both...)
	shown, refused := standingAndConfirmed(t, list)
	require.Empty(t, shown)
	require.Empty(t, refused)

	pgtest.Exec(t, b.Source, `SELECT lo_from_bytea(102, 'two')`)
	shown, refused = standingAndConfirmed(t, list)
	require.Len(t, shown, 1, "%v", shown)
	require.Len(t, refused, 1, "%v", refused)
	pgtest.Exec(t, b.Source, `SELECT lo_unlink(102)`)
	shown, refused = standingAndConfirmed(t, list)
	require.Empty(t, shown)
	require.Empty(t, refused)

	pgtest.Exec(t, b.Source, `SELECT lo_put(101, 0, 'two')`)
	shown, refused = standingAndConfirmed(t, list)
	require.Len(t, shown, 1)
	require.Contains(t, refused[0].Detail, "bytes of 1 large objects")
}

// A column that was added on both sides and then renamed on the source is told as renamed: the
// statement that would add it under its new name leaves rows that cannot be proved, and nothing
// helps then but to start over.
func TestAnAddedColumnThatIsRenamedIsToldAsRenamed(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	pgtest.Exec(t, w.Source, "INSERT INTO public.a (id) VALUES (1)")
	pgtest.Exec(t, w.Target, "INSERT INTO public.a (id) VALUES (1)")
	ask := func() []watch.Notice {
		found, err := w.Comparer.Ask(t.Context(), w.Source, w.Target)
		require.NoError(t, err)
		return found
	}
	require.Empty(t, ask())
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a ADD COLUMN extra text")
	apptest.Typed(t, w.Target, apptest.Once(t, ask(), "definition_differs", "an added column").Remedy, "target")
	require.Empty(t, ask())
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a ALTER COLUMN extra SET DEFAULT 'q'")
	apptest.Typed(t, w.Target, apptest.Once(t, ask(), "definition_differs", "its default").Remedy, "target")
	require.Empty(t, ask())
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a RENAME COLUMN extra TO extra2")
	apptest.Typed(t, w.Target, apptest.Once(t, ask(), "definition_differs", "its name").Remedy, "target")
	require.Empty(t, ask())
}

// An extension that the target alone has is no difference to the status, which says that a cutover
// would be tried; it is none to the cutover either.
func TestAnExtensionOfTheTargetAloneIsNoDifferenceToACutover(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(w.Comparer.Migration.Task.Target.Database()))
	pgtest.Exec(t, admin, "CREATE EXTENSION pg_trgm")
	require.Empty(t, w.Told(w.Comparer.Ask))
	sum := func(l, watch *dbconn.Link) string {
		f, err := ports.TakeFingerprint(t.Context(), l, watch, [2]int{15, 15}, nil)
		require.NoError(t, err)
		return f.Sum
	}
	require.Equal(t, sum(w.Comparer.Source, w.Comparer.Waiting[0]), sum(w.Comparer.Target, w.Comparer.Waiting[1]))
	pgtest.Exec(t, w.Target, "CREATE INDEX ON public.a (v)")
	require.NotEqual(t, sum(w.Comparer.Source, w.Comparer.Waiting[0]), sum(w.Comparer.Target, w.Comparer.Waiting[1]))
}

// A table that was given to another role can no longer be read by that of --source: waiting does
// not help, a grant does.
func TestATableThatWasGivenAwayIsToldWithTheGrantThatHelps(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	require.Empty(t, w.Told(w.Comparer.Ask))
	shared := pgtest.Shared(t, pgtest.Source)
	other := pgtest.Database(t, shared).User()
	super := pgtest.Conn(t, shared.AdminDSN(w.SourceDSN.Database()))
	t.Cleanup(func() {
		admin := pgtest.Conn(t, shared.AdminDSN(w.SourceDSN.Database()))
		pgtest.Exec(t, admin, "ALTER TABLE public.a OWNER TO "+pg.QuoteIdent(w.SourceDSN.User()))
		pgtest.Exec(t, admin, "REVOKE "+pg.QuoteIdent(other)+" FROM "+pg.QuoteIdent(w.SourceDSN.User()))
	})
	pgtest.Exec(t, super, "ALTER TABLE public.a OWNER TO "+pg.QuoteIdent(other))
	found, err := w.Comparer.Ask(t.Context(), w.Source, w.Target)
	require.NoError(t, err)
	apptest.Typed(t, super, apptest.Once(t, found, "definitions_compared", "it may not be read").Remedy, "source")
	for _, said := range w.Told(w.Comparer.Ask) {
		require.NotContains(t, said, "definitions_compared", "it is compared again")
	}
}

var codeLogged = regexp.MustCompile(`"code":"([^"]+)"`)

// loggedCodes are the codes in a log, in order, but for that of a comparison that takes long.
func loggedCodes(log string) (codes []string) {
	for _, m := range codeLogged.FindAllStringSubmatch(log, -1) {
		if m[1] != "definitions_compared" {
			codes = append(codes, m[1])
		}
	}
	return codes
}
