package proxy

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/proxy/wire/wiretest"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	conn := g.dial(t)
	for _, side := range []string{Source, Target, Source} {
		if side != g.Status().Active {
			g.moveTo(t, side)
		}
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), "SELECT pg_sleep(60)")
			done <- err
		}()
		err := cancelUntil(t, conn.PgConn(), done)
		require.Equal(t, pg.CodeQueryCanceled, pg.Code(err))
		require.Equal(t, side, g.side(t, conn))
	}
}

func TestCancelKeysAreChecked(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	c.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(0.3)"))
	wrong := append([]byte(nil), c.key...)
	wrong[0] ^= 1
	for _, key := range [][]byte{wrong, append(c.key, 0), {1, 2, 3, 4, 5}} {
		g.sessions.Cancel(t.Context(), c.pid, key)
	}
	g.sessions.Cancel(t.Context(), c.pid+1, c.key)
	require.Equal(t, "TDCZ", shape(c.until('Z')))
	require.Len(t, c.key, 4)
}

func TestProtocol32GetsALongKey(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	conn := g.dial(t, func(c *pgx.ConnConfig) { c.MaxProtocolVersion = "3.2" })
	require.Len(t, g.relays()[0].Key, 32)
	require.Equal(t, Source, g.side(t, conn))
}
