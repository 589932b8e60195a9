package torture

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
)

// patience bounds each wait for something that must come: machines of tests are shared and slow.
const patience = 2 * time.Minute

// rig is a proxy in front of a database on each of two clusters. Clients know the
// role, the password and the name of the source's.
type rig struct {
	*proxy.Proxy
	t              testing.TB
	source, target pg.DSN
	stop           func()

	moving sync.Mutex // one move at a time
	epoch  int64
}

// newRig makes both databases with the same content.
func newRig(t testing.TB, content []string, change ...func(*proxy.Config)) *rig {
	t.Helper()
	return newRigOn(t, pgtest.Shared(t, pgtest.Source), pgtest.Shared(t, pgtest.Target), content, change...)
}

// newRigOn is newRig on these clusters.
func newRigOn(t testing.TB, source, target *pgcluster.Cluster, content []string, change ...func(*proxy.Config)) *rig {
	t.Helper()
	g := &rig{t: t, source: pgtest.Database(t, source), target: pgtest.Database(t, target)}
	for _, dsn := range []pg.DSN{g.source, g.target} {
		conn := pgtest.Conn(t, dsn)
		for _, sql := range content {
			pgtest.Exec(t, conn, sql)
		}
	}
	g.start(change...)
	return g
}

func address(dsn pg.DSN) string { return net.JoinHostPort(dsn.Host(), strconv.Itoa(dsn.Port())) }

// start has the proxy serve, until the test ends.
func (g *rig) start(change ...func(*proxy.Config)) {
	g.t.Helper()
	endpoint := func(dsn pg.DSN) proxy.Endpoint {
		return proxy.Endpoint{
			Dial: backend.Config{Address: address(dsn)},
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
	cfg := proxy.Config{
		Listen: "127.0.0.1:0", Source: endpoint(g.source), Target: endpoint(g.target),
		Auth: auth.NewUsers(auth.User{Name: g.source.User(), Secret: auth.Plain(g.source.Password())}),
		Log:  zerolog.New(zerolog.NewTestWriter(g.t)).Level(zerolog.ErrorLevel),
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := proxy.New(cfg)
	require.NoError(g.t, err)
	g.Proxy = p
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				g.t.Errorf("proxy ends: %v", err)
			}
		case <-time.After(patience):
			g.t.Error("proxy does not end")
		}
		if n := g.Status().Panics; n > 0 {
			g.t.Errorf("%d panics", n)
		}
	})
	g.t.Cleanup(g.stop)
}

// lane logs in through the proxy.
func (g *rig) lane(params ...wire.Param) *lane {
	g.t.Helper()
	return dial(g.t, g.Addr().String(), g.source, params...)
}

// other is the side that is not active.
func (g *rig) other() string {
	if g.Status().Active == proxy.Source {
		return proxy.Target
	}
	return proxy.Source
}

// pause stages, if asked to, and closes the gate; it returns when all sessions are parked.
func (g *rig) pause(ctx context.Context, stage bool) error {
	g.epoch++
	if stage {
		if _, err := g.Stage(ctx, g.epoch); err != nil {
			return err
		}
	}
	_, err := g.Pause(ctx, g.epoch, patience)
	return err
}

// finish moves what pause has parked to the other side.
func (g *rig) finish(ctx context.Context) (proxy.SwitchReport, error) {
	if _, err := g.Restage(ctx, g.epoch); err != nil {
		return proxy.SwitchReport{}, err
	}
	return g.Switch(ctx, g.epoch, g.other())
}

// move moves all sessions to the other side.
func (g *rig) move(stage bool) error {
	g.moving.Lock()
	defer g.moving.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.pause(ctx, stage); err != nil {
		return err
	}
	report, err := g.finish(ctx)
	if err == nil && report.ClientErrors > 0 {
		return &proxy.UnmovableError{Sessions: report.Failed}
	}
	return err
}

// inBackground begins a move and returns once the gate is closed, or the move over. The
// channel has its outcome.
func (g *rig) inBackground(stage bool) <-chan error {
	done := make(chan error, 1)
	before := g.Status().Epoch
	go func() { done <- g.move(stage) }()
	eventually(g.t, "the gate is closed", func() bool {
		s := g.Status()
		return s.Closed || s.Epoch > before || len(done) > 0
	})
	return done
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls a condition that nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 2*time.Millisecond, what)
}
