package proxy

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/session"
)

// rig is a proxy in front of a database of its own on each of the two clusters.
// Role, password and name of the database differ from side to side.
type rig struct {
	*Proxy
	source, target pg.DSN
	client         pg.DSN // to the proxy
	ends           func() // ends Run's context
	stop           func() // ends, and waits
	epoch          int64
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	g := &rig{
		source: pgtest.Database(t, pgtest.Shared(t, pgtest.Source)),
		target: pgtest.Database(t, pgtest.Shared(t, pgtest.Target)),
	}
	g.start(t, change...)
	return g
}

func (g *rig) start(t testing.TB, change ...func(*Config)) {
	t.Helper()
	endpoint := func(dsn pg.DSN) Endpoint {
		return Endpoint{
			Dial: backend.Config{Address: net.JoinHostPort(dsn.Host(), strconv.Itoa(dsn.Port()))},
			Credentials: func(user string) (string, string, bool) {
				return dsn.User(), dsn.Password(), user == g.source.User()
			},
			Database: func(name string) string {
				if name == g.source.Database() {
					return dsn.Database()
				}
				return name
			},
		}
	}
	cfg := Config{
		Listen: "127.0.0.1:0", Source: endpoint(g.source), Target: endpoint(g.target),
		Auth:  auth.NewUsers(auth.User{Name: g.source.User(), Secret: auth.Plain(g.source.Password())}),
		Pumps: os.Getenv("CROSSFADE_TEST_PUMPS") != "", // all of these tests hold without the engine
		Log:   zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	require.NoError(t, err)
	g.Proxy = p
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	g.ends = cancel
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(pgtest.Timeout):
			t.Error("proxy does not end")
		}
	}
	t.Cleanup(g.stop)
	port := p.Addr().(*net.TCPAddr).Port
	g.client, err = pg.ParseDSN(fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s sslmode=disable",
		port, g.source.User(), g.source.Password(), g.source.Database()))
	require.NoError(t, err)
}

// pgtestDatabase makes a database on one of the two clusters.
func pgtestDatabase(t testing.TB, side string) pg.DSN {
	return pgtest.Database(t, pgtest.Shared(t, pgtest.Kind(side)))
}

// both runs statements on both sides, without the proxy.
func (g *rig) both(t testing.TB, statements ...string) {
	t.Helper()
	for _, dsn := range []pg.DSN{g.source, g.target} {
		conn := pgtest.Conn(t, dsn)
		for _, sql := range statements {
			pgtest.Exec(t, conn, sql)
		}
	}
}

// dial opens a client session through the proxy.
func (g *rig) dial(t testing.TB, change ...func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	cfg := g.client.Config()
	for _, f := range change {
		f(cfg)
	}
	conn, err := pgx.ConnectConfig(within(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// side says which side a session is at.
func (g *rig) side(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	switch name := value(t, conn, "current_database()"); name {
	case g.source.Database():
		return Source
	case g.target.Database():
		return Target
	default:
		return name
	}
}

// toTarget and toSource move all sessions.
func (g *rig) toTarget(t testing.TB) SwitchReport { return g.moveTo(t, Target) }
func (g *rig) toSource(t testing.TB) SwitchReport { return g.moveTo(t, Source) }

func (g *rig) moveTo(t testing.TB, side string) SwitchReport {
	t.Helper()
	g.epoch++
	ctx := within(t)
	_, err := g.Stage(ctx, g.epoch)
	require.NoError(t, err)
	_, err = g.Pause(ctx, g.epoch, 10*time.Second)
	require.NoError(t, err)
	_, err = g.Restage(ctx, g.epoch)
	require.NoError(t, err)
	report, err := g.Switch(ctx, g.epoch, side)
	require.NoError(t, err)
	require.Zero(t, report.ClientErrors, "%v", report.Failed)
	return report
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func run(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	pgtest.Exec(t, conn, sql, args...)
}

func value(t testing.TB, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	return pgtest.Value(t, conn, sql, args...)
}

// eventually polls a condition that nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, pgtest.Timeout, 2*time.Millisecond, what)
}

// awaitHeld waits until a pause that was begun holds every session: the gate is closed before.
func (g *rig) awaitHeld(t testing.TB) {
	t.Helper()
	eventually(t, "the gate is closed, and holds every session", func() bool {
		for _, r := range g.relays() {
			if !session.DoorOf(r).Held() {
				return false
			}
		}
		return g.Status().Closed
	})
}

// relays are the present sessions, oldest first.
func (g *rig) relays() []*session.Session { return g.sessions.List() }
