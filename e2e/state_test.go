package e2e_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestCustomSettingsAndPreparedTransactions moves, with the whole program, a session whose custom
// settings come from its role, from a function that computes their names, and from itself; and
// checks that it refuses while a prepared transaction is open.
func TestCustomSettingsAndPreparedTransactions(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	role := adminOf(t, s.sourceCluster, "postgres")
	pgtest.Exec(t, role, "ALTER ROLE "+pg.QuoteIdent(s.source.User())+" SET app.role_wide = 'of the role'")
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE FUNCTION public.put(k text, v text) RETURNS text LANGUAGE plpgsql AS
		$$ BEGIN RETURN set_config('app.' || k, v, false); END $$`)

	out, code := program(t, s.env(), "run", "--listen=127.0.0.1:0", "--track-settings=tenant")
	require.Equal(t, 2, code, out)
	oneLine(t, strings.TrimSpace(out), "--track-settings", "with a dot")

	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	dial := func() *pgx.Conn { // without the statements of ours that pgtest.Conn begins with
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := pgx.ConnectConfig(ctx, p.proxied().Config())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	conn := dial()
	pgtest.Exec(t, conn, "SELECT public.put('computed', 'kept')")
	abort := func() string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r, err := p.request(ctx, control.CutoverOptions{})
		require.NoError(t, err)
		require.EqualValues(t, "aborted", r.Outcome)
		return r.Reason
	}
	require.Contains(t, abort(), "function public.put computes the names of settings")
	require.Equal(t, 0, p.stop())

	p.extra = []string{"--track-settings=app.computed"}
	p.start()
	p.awaitFollowing()
	conn = dial()
	pgtest.Exec(t, conn, "SELECT public.put('computed', 'kept')")
	pgtest.Exec(t, conn, "SET app.own = 'own'")
	gid := "of " + s.source.Database()
	pgtest.Exec(t, conn, "BEGIN; PREPARE TRANSACTION '"+gid+"'")
	require.Contains(t, abort(), "COMMIT PREPARED")
	pgtest.Exec(t, conn, "COMMIT PREPARED '"+gid+"'")
	p.cutover()
	for c, want := range map[*pgx.Conn]string{conn: "of the role|kept|own", dial(): "of the role||"} {
		require.Equal(t, want, pgtest.Value(t, c, "concat(coalesce(current_setting('app.role_wide', true), 'gone'), '|', current_setting('app.computed', true), '|', current_setting('app.own', true))"))
		require.Equal(t, s.target.Database(), pgtest.Value(t, c, "current_database()"))
	}
	require.Equal(t, 0, p.stop())
}
