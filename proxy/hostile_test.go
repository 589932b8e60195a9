package proxy

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/proxy/auth"
	"crossfade/proxy/poll"
	"crossfade/proxy/session"
	"crossfade/proxy/wire/wiretest"
)

// trustAll lets everybody in.
type trustAll struct{}

func (trustAll) Secret(context.Context, string) (auth.Secret, bool, error) {
	return auth.Trust(), true, nil
}

func TestGarbageEndsItsOwnConnectionOnly(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth, c.LoginTimeout = trustAll{}, 2*time.Second })
	good := g.rawDial(t)
	huge := binary.BigEndian.AppendUint32([]byte{'Q'}, 1<<31)
	short := binary.BigEndian.AppendUint32([]byte{'Q'}, 3)
	for _, garbage := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"), {0}, {0, 0, 0, 3}, {0xff, 0xff, 0xff, 0xff, 1, 2, 3}, {0x16, 3, 1, 0, 5}, {},
		binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), 4<<16),
	} {
		conn, err := net.Dial("tcp", g.Addr().String())
		require.NoError(t, err)
		_, err = conn.Write(garbage)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.Copy(io.Discard, conn)
		if err != nil {
			require.NotErrorIs(t, err, io.EOF)
			require.False(t, poll.TimedOut(err), "%q is not refused", garbage)
		}
		require.NoError(t, conn.Close())
	}
	for _, garbage := range [][]byte{huge, short, {0, 0, 0, 0, 0}} {
		c := g.rawDial(t)
		c.send(garbage)
		if e := c.gone(); e != nil {
			require.Contains(t, []string{pg.CodeProtocolViolation, pg.CodeConnectionFailure}, e.Code)
		}
	}
	require.Equal(t, "TDCZ", good.query("SELECT 1"))
	require.Zero(t, g.Status().Panics)
	eventually(t, "the others are gone", func() bool { return g.Status().Sessions == 1 })
}

func TestWrongPasswordAndUnknownNames(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for _, c := range []struct {
		change func(*pgx.ConnConfig)
		code   string
	}{
		{func(c *pgx.ConnConfig) { c.Password = "wrong" }, pg.CodeInvalidPassword},
		{func(c *pgx.ConnConfig) { c.User = "nobody" }, pg.CodeInvalidPassword},
		{func(c *pgx.ConnConfig) { c.Database = "nowhere" }, pg.CodeInvalidCatalog},
		{func(c *pgx.ConnConfig) { c.RuntimeParams["TimeZone"] = "Nowhere/Else" }, "22023"},
	} {
		cfg := g.client.Config()
		c.change(cfg)
		_, err := pgx.ConnectConfig(within(t), cfg)
		require.Equal(t, c.code, pg.Code(err), "%v", err)
	}
	require.Zero(t, g.Status().Sessions)
}

func TestUnreachableServerIsSaidSo(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Source.Dial.Address = "127.0.0.1:1" })
	_, err := pgx.ConnectConfig(within(t), g.client.Config())
	require.Equal(t, pg.CodeConnectionFailure, pg.Code(err))
}

func TestServerThatGoesAway(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	idle, busy := g.rawDial(t), g.rawDial(t)
	busy.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(60)"))
	admin := pgxAdmin(t, g)
	eventually(t, "both are seen", func() bool {
		return value(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", g.source.Database()) == "2"
	})
	run(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", g.source.Database())
	for _, c := range []*raw{idle, busy} {
		e := c.gone()
		require.NotNil(t, e)
		require.Equal(t, pg.CodeAdminShutdown, e.Code, "the server's own words")
	}
	eventually(t, "no session is left", func() bool { return g.Status().Sessions == 0 })
}

func TestShutdownTellsClients(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	idle, busy := g.rawDial(t), g.rawDial(t)
	busy.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(60)"))
	g.stop()
	for _, c := range []*raw{idle, busy} {
		e := c.gone()
		require.NotNil(t, e)
		require.Equal(t, pg.CodeAdminShutdown, e.Code)
	}
	_, err := net.Dial("tcp", g.Addr().String())
	require.Error(t, err)
}

func TestAPanicEndsOneSession(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	bad, good := g.rawDial(t), g.rawDial(t)
	session.DoorOf(g.relays()[0]).Break()
	bad.send(wiretest.AppendQuery(nil, "SET application_name = 'x'"))
	bad.gone()
	require.Equal(t, "TDCZ", good.query("SELECT 1"))
	require.EqualValues(t, 1, g.Status().Panics)
	eventually(t, "it is gone", func() bool { return g.Status().Sessions == 1 })
}
