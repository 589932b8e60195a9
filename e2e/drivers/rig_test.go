package drivers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/proxy"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
)

const (
	// drainTimeout is the product's default for one attempt.
	drainTimeout = 2 * time.Second
	// attempts bounds how often a pause that did not drain is tried again.
	attempts = 20
	// patience bounds each wait for a loop or for the proxy: a JVM that compiles
	// its program on a machine that runs other tests is slow.
	patience = 2 * time.Minute
)

// rig is a proxy in front of a pair, which counts the connections to it.
type rig struct {
	*proxy.Proxy
	client   pg.DSN
	home     string   // the source's name for its database
	env      []string // the same as libpq's variables
	accepted atomic.Int64
	epoch    int64
	retried  int // pauses that did not drain
}

// counter counts accepted connections.
type counter struct {
	net.Listener
	n *atomic.Int64
}

func (c counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

func newRig(t *testing.T, p *pair) *rig {
	t.Helper()
	endpoint := func(dsn pg.DSN) proxy.Endpoint {
		return proxy.Endpoint{
			Dial:        backend.Config{Address: dsn.Address(), TLS: tlsconf.FromPgx(dsn.Config())},
			Credentials: func(user string) (string, string, bool) { return dsn.User(), dsn.Password(), user == p.source.User() },
			Database:    func(string) string { return dsn.Database() },
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &rig{home: p.source.Database()}
	g.Proxy, err = proxy.New(proxy.Config{
		Listener: counter{listener, &g.accepted}, Source: endpoint(p.source), Target: endpoint(p.target),
		Auth: auth.NewUsers(auth.User{Name: p.source.User(), Secret: auth.Plain(p.source.Password())}),
		Log:  zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	})
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	g.client, err = pg.ParseDSN(fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s sslmode=disable", port, p.source.User(), p.source.Password(), p.source.Database()))
	require.NoError(t, err)
	g.env = []string{
		"PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(port), "PGUSER=" + p.source.User(),
		"PGPASSWORD=" + p.source.Password(), "PGDATABASE=" + p.source.Database(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("proxy does not end")
		}
	})
	return g
}

// switchFirst moves the database while one session is there, which then ends: of a
// database without a session the proxy learns no numbers of types.
func (g *rig) switchFirst(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, g.client.Config())
	require.NoError(t, err)
	require.NoError(t, g.move(1))
	require.NoError(t, conn.Close(ctx))
	require.Eventually(t, func() bool { return g.Status().Sessions == 0 }, patience, time.Millisecond)
	g.accepted.Store(0)
}

// move moves all sessions, of which there are n, to the other side, while their
// clients go on.
func (g *rig) move(n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	to := proxy.Target
	if g.Status().Active == proxy.Target {
		to = proxy.Source
	}
	g.epoch++
	for range attempts {
		if _, err := g.Stage(ctx, g.epoch); err != nil {
			return fmt.Errorf("stage: %w", err)
		}
		_, err := g.Pause(ctx, g.epoch, drainTimeout)
		var late *proxy.DrainTimeoutError
		if errors.As(err, &late) {
			g.retried++
			continue
		}
		if err != nil {
			return fmt.Errorf("pause: %w", err)
		}
		if _, err = g.Restage(ctx, g.epoch); err != nil {
			return fmt.Errorf("restage: %w", err)
		}
		report, err := g.Switch(ctx, g.epoch, to)
		if err != nil {
			return fmt.Errorf("switch: %w", err)
		}
		if report.Moved != n || report.ClientErrors != 0 {
			return fmt.Errorf("moved %d sessions and lost %d: %v", report.Moved, report.ClientErrors, report.Failed)
		}
		return nil
	}
	return fmt.Errorf("the session came to no boundary in %d attempts of %s", attempts, drainTimeout)
}
