package proxy

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// raw is a client that speaks the protocol by hand.
type raw struct {
	t    testing.TB
	conn net.Conn
	r    *wire.Reader
	pid  uint32
	key  []byte
}

// rawDial logs in by hand; the rig must trust its role.
func (g *rig) rawDial(t testing.TB, params ...wire.Param) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", g.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Minute)))
	c := &raw{t: t, conn: conn, r: wire.NewReader(conn, 64<<20)}
	params = append([]wire.Param{{Name: "database", Value: g.source.Database()}}, params...)
	if !slices.ContainsFunc(params, func(p wire.Param) bool { return p.Name == "user" }) {
		params = append(params, wire.Param{Name: "user", Value: g.source.User()})
	}
	b, err := wire.AppendStartup(nil, wire.Version30, params)
	require.NoError(t, err)
	c.send(b)
	for _, f := range c.until('Z') {
		if f.Type == 'K' {
			c.pid, c.key, err = wire.DecodeBackendKeyData(f.Body)
			require.NoError(t, err)
		}
	}
	return c
}

func (c *raw) send(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	require.NoError(c.t, err)
}

// next returns the next frame, in memory of its own.
func (c *raw) next() wire.Frame {
	c.t.Helper()
	f, err := c.r.Next()
	require.NoError(c.t, err)
	return wire.Frame{Type: f.Type, Body: append([]byte(nil), f.Body...)}
}

// until returns the frames up to the first of that type.
func (c *raw) until(typ byte) []wire.Frame {
	c.t.Helper()
	var list []wire.Frame
	for {
		f := c.next()
		list = append(list, f)
		if f.Type == typ {
			return list
		}
	}
}

// query runs a simple Query and returns the types of the answer.
func (c *raw) query(sql string) string {
	c.t.Helper()
	c.send(wiretest.AppendQuery(nil, sql))
	return shape(c.until('Z'))
}

// gone requires that the proxy has closed the connection, and returns its last error.
func (c *raw) gone() *wire.ServerError {
	c.t.Helper()
	var last *wire.ServerError
	for {
		f, err := c.r.Next()
		if err != nil {
			require.ErrorIs(c.t, err, io.EOF)
			return last
		}
		if f.Type == 'E' {
			last, err = wire.DecodeError(f.Body)
			require.NoError(c.t, err)
		}
	}
}

func shape(frames []wire.Frame) string {
	var b []byte
	for _, f := range frames {
		b = append(b, f.Type)
	}
	return string(b)
}
