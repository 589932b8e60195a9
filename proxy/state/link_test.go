package state

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// server is a logged-in connection with nothing of a driver left in it.
type server struct {
	*Link
	dsn pg.DSN
}

// connect logs in with start-up parameters and runs statements.
func connect(t *testing.T, dsn pg.DSN, params []wire.Param, statements ...string) *server {
	t.Helper()
	cfg := dsn.Config()
	cfg.RuntimeParams = map[string]string{}
	for _, p := range params {
		cfg.RuntimeParams[p.Name] = p.Value
	}
	conn, err := pgconn.ConnectConfig(t.Context(), &cfg.Config)
	require.NoError(t, err)
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql).ReadAll()
		require.NoError(t, err, sql)
	}
	require.NoError(t, conn.SyncConn(t.Context()))
	h, err := conn.Hijack()
	require.NoError(t, err)
	t.Cleanup(func() { closeServer(h.Conn) })
	return &server{Link: NewLink(h.Conn, nil, h.ParameterStatuses), dsn: dsn}
}

// closeServer waits until the server has closed too, so that what the session held is free.
func closeServer(c net.Conn) {
	_, _ = c.Write(wire.AppendTerminate(nil))
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 512)
	for {
		if _, err := c.Read(buf); err != nil {
			break
		}
	}
	_ = c.Close()
}

func (s *server) capture(t *testing.T, names ...string) *State {
	t.Helper()
	st, err := s.Capture(within(t), CaptureSpec{Login: s.dsn.User(), Names: names})
	require.NoError(t, err)
	return st
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// exec runs a simple Query on a link, as a client would.
func (s *server) exec(t *testing.T, sql string) {
	t.Helper()
	s.add(unit{labels: []string{sql}}, func(dst []byte) []byte { return wiretest.AppendQuery(dst, sql) })
	require.NoError(t, s.Flush(within(t)))
}

// value runs a query through a named statement and returns its one value.
func (s *server) value(t *testing.T, sql string) string {
	t.Helper()
	var v string
	s.Command(sql, "SELECT ("+sql+")::text", nil, func(cols [][]byte) error {
		v = string(cols[0])
		return nil
	})
	require.NoError(t, s.Flush(within(t)))
	return v
}

func databases(t *testing.T) (source, target pg.DSN) {
	t.Helper()
	return pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
}

// mapRole is the translation of the source's role to the target's.
func mapRole(source, target pg.DSN) func(string) string {
	return func(name string) string {
		if name == source.User() {
			return target.User()
		}
		return name
	}
}

func admin(t *testing.T, k pgtest.Kind, database string) *pgx.Conn {
	t.Helper()
	return pgtest.Conn(t, pgtest.Shared(t, k).AdminDSN(database))
}
