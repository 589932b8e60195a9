package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestFurtherRolesMoveToo moves sessions of a second role, which has another name
// and password on the target.
func TestFurtherRolesMoveToo(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	here, there := "app"+strings.ToLower(rand.Text()[:8]), "neon"+strings.ToLower(rand.Text()[:8])
	for _, x := range []struct {
		c              *pgcluster.Cluster
		database, role string
	}{{s.sourceCluster, s.source.Database(), here}, {s.targetCluster, s.target.Database(), there}} {
		pgtest.Exec(t, adminOf(t, x.c, "postgres"), fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'pw-%s'", x.role, x.role))
		t.Cleanup(func() { pgtest.DropRole(t, x.c, x.database, x.role) })
	}
	pgtest.Exec(t, adminOf(t, s.targetCluster, "postgres"), "CREATE ROLE "+here)
	t.Cleanup(func() { pgtest.DropRole(t, s.targetCluster, s.target.Database(), here) })
	pgtest.Exec(t, pgtest.Conn(t, s.source), "GRANT CONNECT ON DATABASE "+s.source.Database()+" TO "+here+"; GRANT USAGE ON SCHEMA shop TO "+here+"; GRANT SELECT ON shop.accounts TO "+here)
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%s pw-%s %s pw-%s\n", here, here, there, there), 0o600))
	p := newProcess(t, s, "--users="+file)
	p.start()
	p.awaitFollowing()
	pgtest.Exec(t, pgtest.Conn(t, s.target), "GRANT USAGE ON SCHEMA shop TO "+there+"; GRANT SELECT ON shop.accounts TO "+there)
	app, err := pgx.ConnectConfig(t.Context(), p.proxied().WithUser(here, "pw-"+here).Config())
	require.NoError(t, err)
	t.Cleanup(func() { _ = app.Close(context.Background()) })
	main := application(t, p, "0")
	require.Equal(t, here, pgtest.Value(t, app, "SELECT current_user"))
	r := p.cutover()
	require.Zero(t, r.ClientErrors)
	require.Equal(t, there, pgtest.Value(t, app, "SELECT current_user"))
	require.Equal(t, s.source.User(), pgtest.Value(t, main, "SELECT current_user"))
	require.NotEqual(t, "0", pgtest.Value(t, app, "SELECT count(*) FROM shop.accounts"))
	fresh, err := pgx.ConnectConfig(t.Context(), p.proxied().WithUser(here, "pw-"+here).Config())
	require.NoError(t, err)
	require.Equal(t, there, pgtest.Value(t, fresh, "SELECT session_user"))
	require.NoError(t, fresh.Close(t.Context()))
	require.Equal(t, 0, p.stop())
	require.NotContains(t, p.log.String(), "pw-"+here)
	require.NotContains(t, p.log.String(), "pw-"+there)
}

// TestLogins tries what clients do wrong, and all at once, on either side.
func TestLogins(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	try := func(d pg.DSN) string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.ConnectConfig(ctx, d.Config())
		if err == nil {
			_ = conn.Close(ctx)
		}
		return pg.Code(err)
	}
	for _, side := range []string{"source", "target"} {
		require.Equal(t, pg.CodeInvalidPassword, try(p.proxied().WithUser(s.source.User(), "wr0ng")), side)
		require.Equal(t, pg.CodeInvalidPassword, try(p.proxied().WithUser("nobody_known", "wr0ng")), side)
		require.Equal(t, pg.CodeInvalidCatalog, try(p.proxied().WithDatabase("nowhere")), side)
		var all errgroup.Group
		for range 90 {
			all.Go(func() error {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				conn, err := pgx.ConnectConfig(ctx, p.proxied().Config())
				if err != nil {
					return err
				}
				defer func() { _ = conn.Close(ctx) }()
				_, err = conn.Exec(ctx, "SELECT count(*) FROM shop.orders")
				return err
			})
		}
		require.NoError(t, all.Wait(), side)
		if side == "source" {
			p.cutover()
		}
	}
	require.Equal(t, 0, p.stop())
	require.NotContains(t, p.log.String(), s.source.Password())
	require.NotContains(t, p.log.String(), s.target.Password())
	require.NotContains(t, p.log.String(), "wr0ng")
}

// TestCheckSaysWhatIsWrong looks at exit codes, JSON and secrets of check.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	out, code := s.say(t, nil, "check")
	require.Equal(t, 0, code, out)
	out, code = s.say(t, nil, "check", "--json")
	require.Equal(t, 0, code, out)
	require.True(t, strings.HasPrefix(out, "{"), out)
	for name, x := range map[string][]string{
		"source away":           {"CROSSFADE_SOURCE=" + away(t, s.source), s.env()[1]},
		"target away":           {s.env()[0], "CROSSFADE_TARGET=" + away(t, s.target)},
		"wrong password":        {"CROSSFADE_SOURCE=" + uri(s.source.WithUser(s.source.User(), "wr0ng")), s.env()[1]},
		"wrong password target": {s.env()[0], "CROSSFADE_TARGET=" + uri(s.target.WithUser(s.target.User(), "wr0ng"))},
	} {
		for _, args := range [][]string{{"check"}, {"check", "--json"}} {
			out, code := s.say(t, x, args...)
			require.Equal(t, 3, code, "%s: %s", name, out)
			oneLine(t, out, strings.Fields(name)[0][:1])
		}
	}
	pgtest.Exec(t, pgtest.Conn(t, s.source), "CREATE TABLE public.keyless (a int)")
	out, code = s.say(t, nil, "check")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "public.keyless")
	out, code = s.say(t, nil, "check", "--json")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "public.keyless")
	s.requireNothingLeft(t)
}
