package proxy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// tenants makes a table of which a session sees the rows of its own tenant, whatever
// setting it has put it into. The policy hides the names of the settings from a scan
// of the catalog, so that each is known by the one way that it is named after.
func (g *rig) tenants(t *testing.T) {
	t.Helper()
	g.apart(t)
	g.both(t,
		"CREATE TABLE public.docs (tenant text, body int)",
		"INSERT INTO public.docs SELECT 't' || t, b FROM generate_series(0, 59) t, generate_series(1, 3) b",
		`CREATE FUNCTION public.tenant() RETURNS text LANGUAGE sql STABLE AS $$
			SELECT string_agg(v, '+') FROM (VALUES ('catalog'), ('wire'), ('bind'), ('start'), ('operator')) w (way),
				nullif(current_setting('app.by_' || way, true), '') v $$`,
		"CREATE FUNCTION public.enter(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config('app.by_catalog', t, false); END $$",
		"ALTER TABLE public.docs ENABLE ROW LEVEL SECURITY",
		"ALTER TABLE public.docs FORCE ROW LEVEL SECURITY",
		"CREATE POLICY own ON public.docs USING (tenant = public.tenant())",
	)
}

// way is one in which a client says which tenant it is.
type way struct {
	name string
	dial func(c *pgx.ConnConfig, tenant string)
	set  func(ctx context.Context, conn *pgx.Conn, tenant string) error
}

func execute(ctx context.Context, conn *pgx.Conn, sql string, args ...any) error {
	_, err := conn.Exec(ctx, sql, args...)
	return err
}

func mode(m pgx.QueryExecMode) func(*pgx.ConnConfig, string) {
	return func(c *pgx.ConnConfig, _ string) { c.DefaultQueryExecMode = m }
}

var ways = []way{
	{"catalog", nil, func(ctx context.Context, conn *pgx.Conn, tenant string) error {
		return execute(ctx, conn, "SELECT public.enter($1)", tenant)
	}},
	{"SET", nil, func(ctx context.Context, conn *pgx.Conn, tenant string) error {
		return execute(ctx, conn, "SET app.by_wire = '"+tenant+"'")
	}},
	{"set_config", nil, func(ctx context.Context, conn *pgx.Conn, tenant string) error {
		return execute(ctx, conn, "SELECT set_config('app.by_wire', $1, false)", tenant)
	}},
	{"unnamed statement, text", mode(pgx.QueryExecModeExec), func(ctx context.Context, conn *pgx.Conn, tenant string) error {
		return execute(ctx, conn, "SELECT set_config($1, $2, false)", "app.by_bind", tenant)
	}},
	{"prepared statement, binary", mode(pgx.QueryExecModeCacheStatement), func(ctx context.Context, conn *pgx.Conn, tenant string) error {
		return execute(ctx, conn, "SELECT set_config($1, $2, $3)", "app.by_bind", tenant, false)
	}},
	{"prepared statement, run by SQL", nil, func(ctx context.Context, conn *pgx.Conn, tenant string) error {
		if _, err := conn.Prepare(ctx, "entry", "SELECT set_config($1, $2, false)"); err != nil {
			return err
		}
		return execute(ctx, conn, "EXECUTE entry('app.by_bind', '"+tenant+"')")
	}},
	{"PREPARE", simple, func(ctx context.Context, conn *pgx.Conn, tenant string) error {
		return execute(ctx, conn, "DEALLOCATE ALL; PREPARE entry AS SELECT set_config($1, $2, false); EXECUTE entry('app.by_bind', '"+tenant+"')")
	}},
	{"start-up", func(c *pgx.ConnConfig, tenant string) { c.RuntimeParams["app.by_start"] = tenant }, nil},
	{"start-up options", func(c *pgx.ConnConfig, tenant string) { c.RuntimeParams["options"] = "-c app.by_start=" + tenant }, nil},
	{"operator", nil, func(ctx context.Context, conn *pgx.Conn, tenant string) error {
		return execute(ctx, conn, "SELECT set_config('app.by_' || $1, $2, false)", "operator", tenant)
	}},
}

func simple(c *pgx.ConnConfig, _ string) { simply(c) }

// sees returns how many rows of which tenants a session sees.
func sees(ctx context.Context, conn *pgx.Conn) (string, error) {
	var s string
	err := conn.QueryRow(ctx, "SELECT count(*) || ' of ' || coalesce(string_agg(DISTINCT tenant, ','), 'nobody') FROM public.docs").Scan(&s)
	return s, err
}

func TestEveryTenantSeesItsOwnRowsThroughTwentyMoves(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.TrackSettings = []string{"app.by_operator"} })
	g.tenants(t)
	ctx := within(t)
	type client struct {
		way
		conn   *pgx.Conn
		tenant string
	}
	var clients []*client
	for i := range 3 * len(ways) {
		w := ways[i%len(ways)]
		c := &client{way: w, tenant: fmt.Sprintf("t%d", i)}
		c.conn = g.dial(t, func(cfg *pgx.ConnConfig) {
			if w.dial != nil {
				w.dial(cfg, c.tenant)
			}
		})
		if w.set != nil {
			require.NoError(t, w.set(ctx, c.conn, c.tenant), w.name)
		}
		clients = append(clients, c)
	}
	nobody := g.dial(t)
	look := func(when string) {
		t.Helper()
		var group errgroup.Group
		for _, c := range clients {
			group.Go(func() error {
				for range 2 {
					s, err := sees(ctx, c.conn)
					if want := "3 of " + c.tenant; err != nil || s != want {
						return fmt.Errorf("client %q, %s: sees %q, not %q: %w", c.name, when, s, want, err)
					}
				}
				return nil
			})
		}
		require.NoError(t, group.Wait())
		s, err := sees(ctx, nobody)
		require.NoError(t, err)
		require.Equal(t, "0 of nobody", s, when)
	}
	look("before it moves")
	for move := range 20 {
		g.epoch++
		to := g.sides.Other().Name
		_, err := g.Stage(ctx, g.epoch)
		require.NoError(t, err)
		for i, c := range clients { // some become another tenant after the staging
			if i%5 == move%5 && c.set != nil {
				c.tenant = fmt.Sprintf("t%d", 30+(i+move)%30)
				if c.name == "prepared statement, run by SQL" {
					require.NoError(t, c.conn.DeallocateAll(ctx))
				}
				require.NoError(t, c.set(ctx, c.conn, c.tenant), c.name)
			}
		}
		_, err = g.Pause(ctx, g.epoch, 10*time.Second)
		require.NoError(t, err)
		_, err = g.Restage(ctx, g.epoch)
		require.NoError(t, err)
		report, err := g.Switch(ctx, g.epoch, to)
		require.NoError(t, err)
		require.Zero(t, report.ClientErrors, "%v", report.Failed)
		look(fmt.Sprintf("after move %d, at the %s", move+1, to))
	}
}

func TestASettingThatNobodyCanNameIsNotMoved(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.tenants(t)
	ctx := within(t)
	secret, known := g.dial(t), g.dial(t)
	require.NoError(t, execute(ctx, secret, "SELECT set_config('app.by_' || $1, $2, false)", "operator", "t7"))
	require.NoError(t, execute(ctx, known, "SELECT set_config($1, $2, false)", "app.by_bind", "t8"))
	_, err := g.Stage(ctx, 1)
	var unmovable *UnmovableError
	require.ErrorAs(t, err, &unmovable)
	require.Len(t, unmovable.Sessions, 1, "%v", err)
	require.Equal(t, "unknown_settings", unmovable.Sessions[0].Code)
	require.Equal(t, secret.PgConn().PID(), unmovable.Sessions[0].PID)
	require.Contains(t, unmovable.Sessions[0].Detail, "--track-settings")
	_, err = g.Pause(ctx, 1, time.Second)
	require.NoError(t, err)
	_, err = g.Restage(ctx, 1)
	require.ErrorAs(t, err, &unmovable)
	require.NoError(t, g.Resume(ctx, 1))
	for conn, want := range map[*pgx.Conn]string{secret: "3 of t7", known: "3 of t8"} {
		s, err := sees(ctx, conn)
		require.NoError(t, err)
		require.Equal(t, want, s)
		require.Equal(t, Source, g.side(t, conn))
	}
}

func TestAFunctionThatComputesNamesHoldsEverySession(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.tenants(t)
	define := "CREATE FUNCTION public.put(k text, v text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config('app.by_' || k, v, %s); END $$"
	run(t, pgtest.Conn(t, g.source), fmt.Sprintf(define, "false"))
	conn := g.dial(t)
	run(t, conn, "SELECT public.put('operator', 't9')")
	_, err := g.Stage(within(t), 1)
	require.ErrorContains(t, err, "function public.put computes the names of settings")
	require.ErrorContains(t, err, "--track-settings")

	run(t, pgtest.Conn(t, g.source), "DROP FUNCTION public.put; "+fmt.Sprintf(define, "true"))
	_, err = g.Stage(within(t), 2)
	require.NoError(t, err, "what does not outlive its transaction hides nothing")
	run(t, pgtest.Conn(t, g.source), "DROP FUNCTION public.put; "+fmt.Sprintf(define, "false"))
	_, err = g.Stage(within(t), 3)
	require.Error(t, err)

	// The operator names what it makes.
	g.stop()
	g.start(t, func(c *Config) { c.TrackSettings = []string{"app.by_operator"} })
	g.epoch = 0
	conn = g.dial(t)
	run(t, conn, "SELECT public.put('operator', 't9')")
	for range 2 {
		g.moveTo(t, g.sides.Other().Name)
		s, err := sees(within(t), conn)
		require.NoError(t, err)
		require.Equal(t, "3 of t9", s)
	}
}
