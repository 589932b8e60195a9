package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire/wiretest"
)

func TestShutdownLetsTransactionsEnd(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth, c.ShutdownTimeout = trustAll{}, time.Minute })
	g.both(t, "CREATE TABLE public.t (id int)")
	idle, open, busy := g.rawDial(t), g.rawDial(t), g.rawDial(t)
	require.Equal(t, "CZ", open.query("BEGIN"))
	busy.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(1)"))
	r := g.relays()[2]
	eventually(t, "it runs", func() bool { return !r.View.Resting() })
	g.ends()
	require.Equal(t, pg.CodeAdminShutdown, idle.gone().Code, "an idle session ends at once")
	_, err := pgx.ConnectConfig(within(t), g.client.Config())
	require.Equal(t, pg.CodeCannotConnectNow, pg.Code(err), "nobody is let in")
	for range 3 {
		require.Equal(t, "CZ", open.query("INSERT INTO public.t VALUES (1)"), "a transaction goes on")
	}
	require.Equal(t, "TDCZ", shape(busy.until('Z')), "a request is answered")
	require.Equal(t, pg.CodeAdminShutdown, busy.gone().Code)
	open.send(wiretest.AppendQuery(wiretest.AppendQuery(nil, "COMMIT"), "INSERT INTO public.t VALUES (2)"))
	require.Equal(t, "CZ", shape(open.until('Z')))
	require.Equal(t, pg.CodeAdminShutdown, open.gone().Code, "and ends at its boundary")
	g.stop()
	require.Equal(t, "1,1,1", value(t, pgtest.Conn(t, g.source), "SELECT string_agg(id::text, ',') FROM public.t"))
}

func TestShutdownIsBounded(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth, c.ShutdownTimeout = trustAll{}, 300*time.Millisecond })
	open, busy := g.rawDial(t), g.rawDial(t)
	require.Equal(t, "CZ", open.query("BEGIN"))
	busy.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(3600)"))
	g.stop()
	require.Equal(t, pg.CodeAdminShutdown, open.gone().Code)
	require.Equal(t, pg.CodeAdminShutdown, busy.gone().Code)
}

func TestShutdownWithTheGateClosed(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, "CREATE TABLE public.t (id int)")
	held := g.rawDial(t)
	_, err := g.Pause(within(t), 1, 5*time.Second)
	require.NoError(t, err)
	held.send(wiretest.AppendQuery(nil, "INSERT INTO public.t VALUES (1)"))
	login := make(chan error, 1)
	go func() {
		_, err := pgx.ConnectConfig(context.Background(), g.client.Config())
		login <- err
	}()
	eventually(t, "they are held", func() bool { return g.waiting() == 1 && g.Status().Waiting == 1 })
	g.stop()
	require.Equal(t, pg.CodeAdminShutdown, held.gone().Code)
	require.Equal(t, pg.CodeCannotConnectNow, pg.Code(<-login))
	require.Equal(t, "0", value(t, pgtest.Conn(t, g.source), "SELECT count(*) FROM public.t"))
}
