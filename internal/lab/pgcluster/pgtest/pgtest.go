// Package pgtest gives tests their PostgreSQL: clusters that the tests of one
// binary share, and a database with an owner of its own for each test.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
)

// Kind is a sort of cluster that tests share.
type Kind string

// The kinds: Source decodes logically, Target has another superuser.
const (
	Source Kind = "source"
	Target Kind = "target"
)

// Timeout bounds what a helper of this package does. Machines of tests are
// shared and slow.
const Timeout = 90 * time.Second

var shared struct {
	mu       sync.Mutex
	clusters map[Kind]*pgcluster.Cluster
}

// Main runs a test binary's tests, stops the clusters they shared, cleans up, and
// then looks for goroutines left behind. Call it from TestMain.
func Main(m *testing.M, cleanup ...func() error) {
	code := m.Run()
	for _, f := range append(cleanup, stopAll) {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "clean up after the tests:", err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func stopAll() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var errs []error
	for _, c := range shared.clusters {
		errs = append(errs, c.Close())
	}
	shared.clusters = nil
	return errors.Join(errs...)
}

// Shared returns the test binary's cluster of a kind, starting it on first use.
// Tests must not stop it.
func Shared(t testing.TB, kind Kind) *pgcluster.Cluster {
	t.Helper()
	return SharedAs(t, kind, func() pgcluster.Config { return config(kind) })
}

// SharedAs is Shared for a kind that the caller defines.
func SharedAs(t testing.TB, kind Kind, makeConfig func() pgcluster.Config) *pgcluster.Cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if c := shared.clusters[kind]; c != nil {
		return c
	}
	c, err := start(makeConfig())
	require.NoError(t, err, "start the shared %s cluster", kind)
	if shared.clusters == nil {
		shared.clusters = map[Kind]*pgcluster.Cluster{}
	}
	shared.clusters[kind] = c
	return c
}

// Own returns a cluster of the test's own, which it may stop and restart; it is
// closed at the end of the test.
func Own(t testing.TB, kind Kind, change ...func(*pgcluster.Config)) *pgcluster.Cluster {
	t.Helper()
	cfg := config(kind)
	for _, f := range change {
		f(&cfg)
	}
	c, err := start(cfg)
	require.NoError(t, err, "start a %s cluster", kind)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the %s cluster:\n%s", kind, c.ServerLog())
		}
		if err := c.Close(); err != nil {
			t.Errorf("close the %s cluster: %v", kind, err)
		}
	})
	return c
}

func start(cfg pgcluster.Config) (*pgcluster.Cluster, error) {
	if cfg.Dir == "" {
		cfg.Dir = clusterDir()
	}
	return pgcluster.Start(context.Background(), cfg)
}

func config(kind Kind) pgcluster.Config {
	switch kind {
	case Target:
		return pgcluster.Config{Superuser: "cloud_admin"}
	default:
		return pgcluster.Config{Settings: map[string]string{"wal_level": "logical"}}
	}
}

// Database makes a database owned by a fresh role that is no superuser (LOGIN
// REPLICATION, member of pg_monitor and pg_signal_backend) and returns its DSN.
// Other roles, which tests that run beside it make in the cluster, may not connect to it.
// Both are dropped at the end of the test, replication slots included.
func Database(t testing.TB, c *pgcluster.Cluster) pg.DSN {
	t.Helper()
	name := "t" + strings.ToLower(rand.Text()[:12])
	password := rand.Text()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	admin, err := pg.Connect(ctx, c.AdminDSN("postgres"), pg.WithName("test"))
	require.NoError(t, err)
	defer func() { _ = admin.Close(ctx) }()
	for _, sql := range []string{
		"CREATE ROLE " + name + " LOGIN REPLICATION PASSWORD " + pg.QuoteLiteral(password),
		"GRANT pg_monitor, pg_signal_backend TO " + name,
		"CREATE DATABASE " + name + " OWNER " + name + " TEMPLATE template0",
		revokeConnect(name),
	} {
		_, err := admin.Exec(ctx, sql)
		require.NoError(t, err)
	}
	t.Cleanup(func() { Drop(t, c, name) })
	return c.DSN(name, password, name)
}

func revokeConnect(database string) string {
	return "REVOKE CONNECT ON DATABASE " + pg.QuoteIdent(database) + " FROM PUBLIC"
}

// DatabaseAs makes one more database of a role, made with options of CREATE DATABASE;
// template0 is its template. Other roles may not connect to it. It is dropped at the end of the
// test, with the sessions in it; one of the same name is replaced.
func DatabaseAs(t testing.TB, c *pgcluster.Cluster, name, owner, options string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	admin, err := pg.Connect(ctx, c.AdminDSN("postgres"), pg.WithName("test"))
	require.NoError(t, err)
	defer func() { _ = admin.Close(ctx) }()
	require.NoError(t, DropDatabase(ctx, admin, pg.QuoteIdent(name)))
	t.Cleanup(func() { DropMade(t, c, name) })
	for _, sql := range []string{
		"CREATE DATABASE " + pg.QuoteIdent(name) + " OWNER " + pg.QuoteIdent(owner) + " TEMPLATE template0 " + options,
		revokeConnect(name),
	} {
		_, err := admin.Exec(ctx, sql)
		require.NoError(t, err)
	}
}

// DropMade drops a database that a test or a run has made, if it is there, and ends the
// sessions in it. Register it before sessions are opened, so that it runs after they ended.
func DropMade(t testing.TB, c *pgcluster.Cluster, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	admin, err := pg.Connect(ctx, c.AdminDSN("postgres"), pg.WithName("test"))
	if err != nil {
		t.Errorf("connect to drop database %s: %v", name, err)
		return
	}
	defer func() { _ = admin.Close(ctx) }()
	if err := DropDatabase(ctx, admin, pg.QuoteIdent(name)); err != nil {
		t.Errorf("drop database %s: %v", name, err)
	}
}

// Drop drops a database and the role of the same name, with the slots of that
// database.
func Drop(t testing.TB, c *pgcluster.Cluster, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	admin, err := pg.Connect(ctx, c.AdminDSN("postgres"), pg.WithName("test"))
	if err != nil {
		t.Errorf("connect to drop database %s: %v", name, err)
		return
	}
	defer func() { _ = admin.Close(ctx) }()
	if err := dropSlots(ctx, admin, name); err != nil {
		t.Errorf("drop slots of %s: %v", name, err)
	}
	if err := DropDatabase(ctx, admin, name); err != nil {
		t.Errorf("drop database %s: %v", name, err)
	}
	if _, err := admin.Exec(ctx, "DROP ROLE IF EXISTS "+name); err != nil {
		t.Errorf("drop role %s: %v", name, err)
	}
}

// DropDatabase drops a database, if it is there, and ends the sessions in it.
func DropDatabase(ctx context.Context, admin *pgx.Conn, name string) error {
	_, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	if !pg.IsCode(err, pg.CodeSyntaxError) {
		return err
	}
	// Before PostgreSQL 13 the sessions in it have to be ended first.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := admin.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = $1`, name); err != nil {
			return err
		}
		if _, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name); !pg.IsCode(err, pg.CodeObjectInUse) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// dropSlots ends the walsenders of a database and drops its slots; a walsender
// needs a moment to let its slot go.
func dropSlots(ctx context.Context, admin *pgx.Conn, database string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		_, err := admin.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL`, database)
		if err != nil {
			return err
		}
		if _, err := admin.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active`, database); err != nil && !pg.IsCode(err, pg.CodeObjectInUse, pg.CodeUndefinedObject) {
			return err
		}
		if err := admin.QueryRow(ctx, `SELECT count(*) FROM pg_replication_slots WHERE database = $1`, database).Scan(&left); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Conn opens a session that ends with the test. Unlike our own sessions it looks
// for names in the schema public.
func Conn(t testing.TB, dsn pg.DSN, opts ...pg.Option) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	opts = append([]pg.Option{pg.WithName("test"), pg.WithParam("search_path", "public")}, opts...)
	conn, err := pg.Connect(ctx, dsn, opts...)
	for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // one attempt has a bound of its own
		conn, err = pg.Connect(ctx, dsn, opts...)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Exec runs statements and fails the test on an error.
func Exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	var err error
	if len(args) == 0 {
		_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	} else {
		_, err = conn.Exec(ctx, sql, args...)
	}
	require.NoError(t, err, sql)
}

// Value runs a query that gives one value and returns it as text.
func Value(t testing.TB, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	var v string
	require.NoError(t, conn.QueryRow(ctx, "SELECT coalesce(("+sql+")::text, '')", args...).Scan(&v), sql)
	return v
}

// DropRole drops a role and what it was granted in one database.
func DropRole(t testing.TB, c *pgcluster.Cluster, database, role string) {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	admin, err := pg.Connect(ctx, c.AdminDSN(database), pg.WithName("test"))
	if err != nil {
		t.Errorf("connect to drop role %s: %v", role, err)
		return
	}
	defer func() { _ = admin.Close(ctx) }()
	for _, sql := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
