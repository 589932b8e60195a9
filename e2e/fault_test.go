package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/internal/lab/workload"
)

// small is an application whose copy takes a second.
var small = workload.Shop{Accounts: 300}

// loadShop fills the source with the small shop, as its owner.
func loadShop(t *testing.T, s *sides) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	require.NoError(t, small.Setup(ctx, pgtest.Conn(t, s.source)))
}

// startShop starts clients of the shop through the proxy.
func startShop(t *testing.T, p *process, clients int) *workload.Workload {
	t.Helper()
	return startClients(t, p.proxied(), small, clients, 25)
}

// ownSides are sides on clusters of the test's own, which it may stop.
func ownSides(t *testing.T) *sides {
	t.Helper()
	s := &sides{sourceCluster: pgtest.Own(t, pgtest.Source), targetCluster: neontest.Own(t)}
	// Dropped with their clusters, which may be down at the end.
	name := "t" + strings.ToLower(rand.Text()[:12])
	admin := adminOf(t, s.sourceCluster, "postgres")
	password := rand.Text()
	pgtest.Exec(t, admin, "CREATE ROLE "+name+" LOGIN REPLICATION PASSWORD "+pg.QuoteLiteral(password))
	pgtest.Exec(t, admin, "GRANT pg_monitor, pg_signal_backend TO "+name)
	pgtest.Exec(t, admin, "CREATE DATABASE "+name+" OWNER "+name+" TEMPLATE template0")
	s.source = s.sourceCluster.DSN(name, password, name)
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	plain, err := neonlike.Prepare(ctx, s.targetCluster, neonlike.Options{})
	require.NoError(t, err)
	s.neon = neontest.Endpoint(t, s.targetCluster)
	s.target = s.neon.DSN(plain.User(), plain.Password(), plain.Database())
	return s
}

// cluster returns a side's cluster and a superuser's view of its database.
func (s *sides) cluster(side string) (*pgcluster.Cluster, pg.DSN) {
	if side == "target" {
		return s.targetCluster, s.targetCluster.AdminDSN(s.target.Database())
	}
	return s.sourceCluster, s.sourceCluster.AdminDSN(s.source.Database())
}

func (s *sides) restart(t *testing.T, side string, mode pgcluster.Mode) {
	t.Helper()
	s.stop(t, side, mode)
	s.begin(t, side)
}

func (s *sides) stop(t *testing.T, side string, mode pgcluster.Mode) {
	t.Helper()
	c, _ := s.cluster(side)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, c.Stop(ctx, mode))
}

func (s *sides) begin(t *testing.T, side string) {
	t.Helper()
	c, _ := s.cluster(side)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, c.StartServer(ctx))
}

// hold is a point in a side's database at which every session that passes stops.
type hold struct {
	t   *testing.T
	dsn pg.DSN
	id  string
}

// holdWhere makes each write of a table of ours that a condition on NEW picks wait,
// until it is released or its server ends. table is such as "crossfade.run".
func (s *sides) holdWhere(t *testing.T, side, table, when string) *hold {
	t.Helper()
	return s.holdAt(t, side, "TRIGGER %s BEFORE INSERT OR UPDATE ON "+table, when)
}

// holdCommitWhere is holdWhere for the commit of a transaction with such a write.
func (s *sides) holdCommitWhere(t *testing.T, side, table, when string) *hold {
	t.Helper()
	return s.holdAt(t, side, "CONSTRAINT TRIGGER %s AFTER INSERT OR UPDATE ON "+table+" DEFERRABLE INITIALLY DEFERRED", when)
}

func (s *sides) holdAt(t *testing.T, side, trigger, when string) *hold {
	t.Helper()
	_, dsn := s.cluster(side)
	h := &hold{t: t, dsn: dsn, id: "hold_" + strings.ToLower(rand.Text()[:8])}
	conn := h.connect()
	defer func() { _ = conn.Close(context.Background()) }()
	pgtest.Exec(t, conn, fmt.Sprintf(`CREATE TABLE crossfade.%[1]s AS SELECT true AS closed;
		CREATE FUNCTION crossfade.%[1]s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN
			LOOP
				BEGIN
					EXIT WHEN NOT EXISTS (SELECT FROM crossfade.%[1]s);
					PERFORM pg_catalog.set_config('application_name', '%[1]s', false);
					PERFORM pg_catalog.pg_sleep(0.01);
				EXCEPTION WHEN query_canceled THEN -- a driver that gives up must not be heard
				END;
			END LOOP;
			RETURN NEW;
		END $$;
		CREATE %[2]s FOR EACH ROW WHEN (%[3]s) EXECUTE FUNCTION crossfade.%[1]s()`, h.id, fmt.Sprintf(trigger, h.id), when))
	return h
}

func (h *hold) connect() *pgx.Conn {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	conn, err := pg.Connect(ctx, h.dsn, pg.WithName("test"))
	require.NoError(h.t, err)
	return conn
}

// met waits until someone stands at the point.
func (h *hold) met() {
	h.t.Helper()
	conn := h.connect()
	defer func() { _ = conn.Close(context.Background()) }()
	_, err := awaitRow(conn, `SELECT 1 FROM pg_stat_activity WHERE application_name = '`+h.id+`'`)
	require.NoError(h.t, err, "nobody came to the point")
}

// release lets those who stand there go on, and all who come later pass.
func (h *hold) release() {
	h.t.Helper()
	conn := h.connect()
	defer func() { _ = conn.Close(context.Background()) }()
	pgtest.Exec(h.t, conn, "DELETE FROM crossfade."+h.id)
}

// eventually polls until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			require.Fail(t, "the wait was too long", what)
		case <-tick.C:
		}
	}
}
