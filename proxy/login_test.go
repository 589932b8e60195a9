package proxy

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// TestALoginInThePauseIsProvedAtOnce: who it is needs no server, and no server is
// dialled before the gate opens.
func TestALoginInThePauseIsProvedAtOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	_, err := g.Pause(within(t), 1, 5*time.Second)
	require.NoError(t, err)
	admin := pgxAdmin(t, g)
	servers := func(dsn pg.DSN, conn *pgx.Conn) string {
		return value(t, conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", dsn.Database())
	}
	_, err = pgx.ConnectConfig(within(t), g.client.WithUser(g.source.User(), "wrong").Config())
	require.Equal(t, pg.CodeInvalidPassword, pg.Code(err), "it need not wait to be told")

	c := g.knock(t, wire.Version30)
	require.Equal(t, wire.AuthSASL, c.authentication().Kind)
	client := scram.NewClient(scram.ClientConfig{Derive: scram.Password(scram.NewDeriver(0), "", g.source.Password())})
	c.send(wire.AppendSASLInitial(nil, scram.Mechanism, client.First()))
	final, err := client.Continue(within(t), c.authentication().Data)
	require.NoError(t, err)
	c.send(wire.AppendSASLResponse(nil, final))
	require.NoError(t, client.Verify(c.authentication().Data))
	require.Equal(t, wire.AuthOK, c.authentication().Kind, "known, while the gate is closed")
	eventually(t, "it waits at the gate", func() bool { return g.Status().Waiting == 1 })
	require.Equal(t, "0", servers(g.source, admin))
	require.Equal(t, "0", servers(g.target, pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))))

	_, err = g.Restage(within(t), 1)
	require.NoError(t, err)
	_, err = g.Switch(within(t), 1, Target)
	require.NoError(t, err)
	c.until('Z')
	require.Equal(t, g.target.Database(), one(t, c.answer("SELECT current_database()")))
}

// authentication reads one request of an authentication.
func (c *raw) authentication() wire.Auth {
	c.t.Helper()
	f := c.next()
	require.EqualValues(c.t, 'R', f.Type)
	a, err := wire.DecodeAuth(f.Body)
	require.NoError(c.t, err)
	return a
}

// answer runs a simple Query and returns the answer.
func (c *raw) answer(sql string) []wire.Frame {
	c.t.Helper()
	c.send(wiretest.AppendQuery(nil, sql))
	return c.until('Z')
}
