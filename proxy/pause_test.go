package proxy

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// pgxAdmin is a superuser's session at the source, outside the proxy and in another database.
func pgxAdmin(t *testing.T, g *rig) *pgx.Conn {
	t.Helper()
	return pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"))
}

func TestOpenTransactionAbortsThePause(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.both(t, "CREATE TABLE public.t (id int)")
	open, other := g.dial(t), g.dial(t)
	tx, err := open.Begin(within(t))
	require.NoError(t, err)
	_, err = tx.Exec(within(t), "INSERT INTO public.t VALUES (1)")
	require.NoError(t, err)

	report, err := g.Stage(within(t), 1)
	require.NoError(t, err)
	require.Equal(t, 1, report.Staged)
	require.Len(t, report.Unstaged, 1)
	require.Equal(t, wire.ReasonTransaction, report.Unstaged[0].Detail)

	_, err = g.Pause(within(t), 1, 100*time.Millisecond)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.Len(t, late.Sessions, 1)
	require.Equal(t, wire.ReasonTransaction, late.Sessions[0].Detail)
	require.Equal(t, open.PgConn().PID(), late.Sessions[0].PID)
	require.False(t, g.Status().Closed)

	_, err = tx.Exec(within(t), "INSERT INTO public.t VALUES (2)")
	require.NoError(t, err)
	require.NoError(t, tx.Commit(within(t)))
	require.Equal(t, "2", value(t, other, "SELECT count(*) FROM public.t"))
	g.epoch = 1
	g.toTarget(t)
	require.Equal(t, "0", value(t, open, "SELECT count(*) FROM public.t"))
}

func TestPauseWaitsForTheTransaction(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	conn := g.dial(t)
	tx, err := conn.Begin(within(t))
	require.NoError(t, err)
	paused := make(chan error, 1)
	go func() {
		_, err := g.Pause(context.Background(), 1, 30*time.Second)
		paused <- err
	}()
	g.awaitHeld(t)
	for range 3 {
		_, err = tx.Exec(within(t), "SELECT 1")
		require.NoError(t, err, "statements of the transaction go on")
	}
	require.Empty(t, paused)
	require.NoError(t, tx.Commit(within(t)))
	require.NoError(t, <-paused)
	require.Equal(t, 1, g.Status().Parked)

	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 1")
		answered <- err
	}()
	login := make(chan error, 1)
	go func() {
		c, err := pgx.ConnectConfig(context.Background(), g.client.Config())
		if err == nil {
			err = c.Close(context.Background())
		}
		login <- err
	}()
	eventually(t, "the login waits", func() bool { return g.Status().Waiting == 1 })
	require.Empty(t, answered)
	require.NoError(t, g.Resume(within(t), 1))
	require.NoError(t, <-answered)
	require.NoError(t, <-login)
	require.Equal(t, Source, g.side(t, conn))
}

func TestAnUnansweredRequestIsNotDrained(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, "CREATE TABLE public.t (id int)",
		"CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$",
		"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON public.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.slow()")
	c := g.rawDial(t)
	require.Equal(t, "CZ", c.query("BEGIN"))
	require.Equal(t, "CZ", c.query("INSERT INTO public.t VALUES (1)"))
	c.send(wiretest.AppendQuery(nil, "COMMIT"))
	r := g.relays()[0]
	eventually(t, "the COMMIT is on its way", func() bool {
		return session.DoorOf(r).Reason() == wire.ReasonOutstanding
	})
	_, err := g.Pause(within(t), 1, 50*time.Millisecond)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.Equal(t, wire.ReasonOutstanding, late.Sessions[0].Detail)
	require.Equal(t, "CZ", shape(c.until('Z')))
	require.Equal(t, "1", value(t, pgtest.Conn(t, g.source), "SELECT count(*) FROM public.t"))
}

func TestALoginInProgressIsNotDrained(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	g := newRig(t, func(c *Config) {
		c.Source.Dial.Address, c.Source.Dial.ConnectTimeout = silent.Addr().String(), 2*time.Second
	})
	login := make(chan error, 1)
	go func() {
		_, err := pgx.ConnectConfig(context.Background(), g.client.Config())
		login <- err
	}()
	eventually(t, "it dials", func() bool { return g.gate.State().Leases == 1 })
	_, err = g.Pause(within(t), 1, 50*time.Millisecond)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.Equal(t, 1, late.Logins)
	require.Error(t, <-login)
}
