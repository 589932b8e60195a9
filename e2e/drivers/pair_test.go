package drivers

import (
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// numbersDiffer makes the types' OIDs of the two sides differ, in the worst way: a
// number that is one type on the source is another type on the target.
const numbersDiffer = true

// types are made in this order on the source; on the target too, unless
// numbersDiffer.
var types = []string{
	"CREATE TYPE public.shade AS ENUM ('light', 'medium', 'dark')",
	"CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'happy')",
	"CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0)",
	"CREATE TYPE public.pair AS (a integer, b text, m public.mood)",
	"CREATE TYPE public.season AS ENUM ('spring', 'autumn')",
	"CREATE TYPE public.weather AS (s public.season, n integer)",
}

// typesSwapped has two enums in each other's place.
var typesSwapped = []string{types[1], types[0], types[3], types[2], "CREATE TYPE public.gone AS ENUM ()", "DROP TYPE public.gone", types[4], types[5]}

// tables hold the same reference rows on both sides.
var tables = []string{
	`CREATE TABLE public.reference (id integer PRIMARY KEY, feeling mood NOT NULL, feelings mood[] NOT NULL, tint shade NOT NULL,
		numbers integer[] NOT NULL, thing pair NOT NULL, amount positive NOT NULL)`,
	`INSERT INTO public.reference VALUES
		(1, 'sad', '{sad,happy}', 'light', '{1,2,3}', '(1,one,sad)', 10),
		(2, 'ok', '{}', 'medium', '{}', '(2,two,ok)', 20),
		(3, 'happy', '{happy,ok,sad}', 'dark', '{-1,0,2147483647}', '(3,three,happy)', 30)`,
	`CREATE TABLE public.item (id bigserial PRIMARY KEY, loop text NOT NULL, feeling mood NOT NULL, feelings mood[] NOT NULL,
		tint shade, numbers integer[] NOT NULL, thing pair, things pair[], amount positive NOT NULL)`,
	`CREATE TABLE public.late (s season NOT NULL, all_of_them season[] NOT NULL, w weather NOT NULL)`,
	`INSERT INTO public.late VALUES ('autumn', '{autumn,spring}', '(spring,7)')`,
	`CREATE TABLE public.copied (loop text NOT NULL, n integer NOT NULL, feeling mood NOT NULL)`,
	`CREATE TABLE public.account (tenant text NOT NULL, n integer NOT NULL)`,
	`INSERT INTO public.account VALUES ('north', 1), ('north', 2), ('south', 10), ('south', 20), ('south', 30)`,
	`ALTER TABLE public.account ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`,
	`CREATE POLICY tenant ON public.account USING (tenant = current_setting('app.tenant'))`,
}

// pair is a prepared database on each of two clusters, of which the target is like
// Neon, behind its front. Role, password and name of the database differ from side to side.
type pair struct {
	source, target pg.DSN
}

// making is held while numbers are given out, which each cluster counts for all of
// its databases.
var making sync.Mutex

func newPair(t *testing.T) *pair {
	making.Lock()
	defer making.Unlock()
	neon := neontest.Endpoint(t, neontest.Shared(t))
	p := &pair{source: pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), target: neontest.Database(t, neon)}
	// The applications' role sees what policies let it see, as the source's does.
	pgtest.Exec(t, pgtest.Conn(t, neon.Cluster().AdminDSN("postgres")), "ALTER ROLE "+p.target.User()+" NOBYPASSRLS")
	source, target := pgtest.Conn(t, p.source), pgtest.Conn(t, p.target)
	align(t, source, target)
	other := types
	if numbersDiffer {
		other = typesSwapped
	}
	for conn, list := range map[*pgx.Conn][]string{source: types, target: other} {
		for _, sql := range append(append([]string(nil), list...), tables...) {
			pgtest.Exec(t, conn, sql)
		}
	}
	for _, name := range []string{"mood", "_mood", "shade", "_shade", "pair", "_pair", "positive", "season", "_season", "weather"} {
		here, there := number(t, source, name), number(t, target, name)
		if numbersDiffer {
			require.NotEqual(t, here, there, name)
		} else {
			require.Equal(t, here, there, name)
		}
	}
	if numbersDiffer {
		require.Equal(t, number(t, source, "shade"), number(t, target, "mood"))
		require.Equal(t, number(t, source, "_shade"), number(t, target, "_mood"))
	}
	return p
}

// align makes two clusters give the same number to the next type.
func align(t *testing.T, one, other *pgx.Conn) {
	t.Helper()
	next := func(conn *pgx.Conn) int {
		pgtest.Exec(t, conn, "CREATE TYPE public.probe AS ENUM ()")
		defer pgtest.Exec(t, conn, "DROP TYPE public.probe")
		return number(t, conn, "probe")
	}
	for range 10 {
		a, b := next(one), next(other)
		if a == b {
			return
		}
		if a > b {
			one, other, a, b = other, one, b, a
		}
		pgtest.Exec(t, one, "SELECT lo_unlink(lo_create(0)) FROM generate_series(1, $1::integer)", b-a)
	}
	t.Fatal("the OIDs of the two clusters cannot be aligned")
}

func number(t *testing.T, conn *pgx.Conn, name string) int {
	t.Helper()
	n, err := strconv.Atoi(pgtest.Value(t, conn, "SELECT oid FROM pg_type WHERE typname = $1 AND typnamespace = 'public'::regnamespace", name))
	require.NoError(t, err)
	return n
}
