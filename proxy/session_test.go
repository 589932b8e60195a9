package proxy

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestPlainSessionMovesThereAndBack(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.both(t, "CREATE TABLE public.side (name text)")
	conn := g.dial(t)
	require.Equal(t, Source, g.side(t, conn))
	run(t, conn, "SET search_path = public")
	run(t, conn, "INSERT INTO side VALUES ('source')")

	report := g.toTarget(t)
	require.Equal(t, 1, report.Moved)
	require.Equal(t, Target, g.side(t, conn))
	run(t, conn, "INSERT INTO side VALUES ('target')")
	require.Equal(t, "target", value(t, conn, "SELECT string_agg(name, ',') FROM side"))
	require.Equal(t, Target, g.side(t, g.dial(t)), "new logins go there too")

	g.toSource(t)
	require.Equal(t, Source, g.side(t, conn))
	require.Equal(t, "source", value(t, conn, "SELECT string_agg(name, ',') FROM side"))
}

func TestEveryQueryModeMoves(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.both(t, "CREATE TABLE public.t (id int)", "INSERT INTO public.t SELECT generate_series(1, 1000)")
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	var conns []*pgx.Conn
	for _, mode := range modes {
		conns = append(conns, g.dial(t, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode }))
	}
	check := func(side string) {
		t.Helper()
		for i, conn := range conns {
			for range 2 {
				var n int
				require.NoError(t, conn.QueryRow(within(t), "SELECT count(*)::int FROM public.t WHERE id <= $1", 10+i).Scan(&n), "%v", modes[i])
				require.Equal(t, 10+i, n)
			}
			require.Equal(t, side, g.side(t, conn))
		}
	}
	check(Source)
	for _, side := range []string{Target, Source, Target} {
		g.moveTo(t, side)
		check(side)
	}
	require.Equal(t, fmt.Sprint(len(modes)), fmt.Sprint(g.Status().Sessions))
}
