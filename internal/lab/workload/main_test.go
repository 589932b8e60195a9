package workload

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// small is a shop that is made in an instant.
var small = Shop{Accounts: 60}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*pgtest.Timeout)
	t.Cleanup(cancel)
	return ctx
}

func psqlPath(t *testing.T) string {
	t.Helper()
	return pgtest.Shared(t, pgtest.Source).Binaries().Path("psql")
}

// shop is a database with a small shop in it, owned by no superuser.
func shop(t *testing.T) pg.DSN {
	t.Helper()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	require.NoError(t, small.Setup(bounded(t), pgtest.Conn(t, dsn)))
	return dsn
}

// throughRelay puts a relay in front of dsn.
func throughRelay(t *testing.T, dsn pg.DSN) (*netfault.Relay, pg.DSN) {
	t.Helper()
	r, err := netfault.Listen(netfault.Config{Target: net.JoinHostPort(dsn.Host(), strconv.Itoa(dsn.Port()))})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	moved, err := pg.ParseDSN("host=127.0.0.1 port=" + strconv.Itoa(r.Addr().Port) + " user=" + dsn.User() +
		" password=" + dsn.Password() + " dbname=" + dsn.Database() + " sslmode=disable")
	require.NoError(t, err)
	return r, moved
}

func begin(t *testing.T, cfg Config) *Workload {
	t.Helper()
	if cfg.PSQL == "" {
		cfg.PSQL = psqlPath(t)
	}
	w, err := Start(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { w.Stop(bounded(t)) })
	return w
}

// verdict checks the report's history against the database.
func verdict(t *testing.T, dsn pg.DSN, sc Scenario, rep Report) history.Result {
	t.Helper()
	res, err := history.Check(bounded(t), pgtest.Conn(t, dsn), rep.Operations, Options(sc, 0))
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, rep.Print(&text))
	require.NoError(t, res.Print(&text))
	t.Log("\n" + text.String())
	return res
}
