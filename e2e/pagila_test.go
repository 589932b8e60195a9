package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
	"crossfade/internal/history"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster"
	"crossfade/internal/pgcluster/pgtest"
	"crossfade/internal/workload"
)

// pagilaDir is where the sample database's files are, beside the repository.
const pagilaDir = "../../shared/testdata/pagila"

// pagila is a database with the sample that those of the tests are copied from.
var pagila struct {
	once sync.Once
	err  error
}

// The template and the role that owns what is in it.
const pagilaTemplate, pagilaOwner = "pagila_template", "pagila_owner"

// makePagila loads the sample once, and adds what it lacks: the ledger, and a
// foreign key that leads from the partitioned table.
func makePagila(c *pgcluster.Cluster) error {
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	admin, err := pg.Connect(ctx, c.AdminDSN("postgres"), pg.WithName("test"))
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(ctx) }()
	for _, sql := range []string{
		"CREATE ROLE " + pagilaOwner + " LOGIN PASSWORD 'pagila'",
		"CREATE DATABASE " + pagilaTemplate + " TEMPLATE template0",
		"GRANT CREATE ON DATABASE " + pagilaTemplate + " TO " + pagilaOwner,
	} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	ledger := history.LedgerDDL(workload.Pagila{}.Ledger())
	if c.Binaries().Major < 13 { // gen_random_uuid, which the ledger needs, is an extension's
		ledger = strings.ReplaceAll(ledger, "gen_random_uuid", "public.gen_random_uuid")
		template, err := pg.Connect(ctx, c.AdminDSN(pagilaTemplate), pg.WithName("test"))
		if err != nil {
			return err
		}
		_, err = template.Exec(ctx, "CREATE EXTENSION pgcrypto SCHEMA public")
		if err = errors.Join(err, template.Close(ctx)); err != nil {
			return err
		}
	}
	dsn := c.DSN(pagilaOwner, "pagila", pagilaTemplate)
	if err := workload.LoadPagila(ctx, c.Binaries().Path("psql"), pagilaDir, dsn); err != nil {
		return err
	}
	owner, err := pg.Connect(ctx, dsn, pg.WithName("test"))
	if err != nil {
		return err
	}
	defer func() { _ = owner.Close(ctx) }()
	_, err = owner.PgConn().Exec(ctx, ledger+
		`; ALTER TABLE pagila.payment ADD CONSTRAINT payment_staff_fkey FOREIGN KEY (staff_id) REFERENCES pagila.staff (staff_id)`).ReadAll()
	return err
}

// loadPagila fills the source, as its owner, and gives another role privileges on
// it.
func loadPagila(t *testing.T, s *sides) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(pagilaDir, "pagila-schema.sql")); err != nil {
		t.Skip("the sample database Pagila is not beside the repository: ", err)
	}
	database := s.source.Database()
	root := adminOf(t, s.sourceCluster, "postgres")
	if s.sourceCluster == pgtest.Shared(t, pgtest.Source) {
		pagila.once.Do(func() { pagila.err = makePagila(s.sourceCluster) })
		require.NoError(t, pagila.err)
	} else {
		require.NoError(t, makePagila(s.sourceCluster))
	}
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	require.NoError(t, pgtest.DropDatabase(ctx, root, database))
	pgtest.Exec(t, root, "CREATE DATABASE "+database+" OWNER "+s.source.User()+" TEMPLATE "+pagilaTemplate)
	pgtest.Exec(t, root, "REVOKE CONNECT ON DATABASE "+database+" FROM PUBLIC")
	pgtest.Exec(t, adminOf(t, s.sourceCluster, database), "REASSIGN OWNED BY "+pagilaOwner+" TO "+s.source.User())
	conn := pgtest.Conn(t, s.source)
	role := "reader_" + database
	for database, c := range map[string]*pgcluster.Cluster{database: s.sourceCluster, s.target.Database(): s.targetCluster} {
		pgtest.Exec(t, adminOf(t, c, "postgres"), "CREATE ROLE "+role)
		t.Cleanup(func() { pgtest.DropRole(t, c, database, role) })
	}
	pgtest.Exec(t, conn, "GRANT USAGE ON SCHEMA pagila TO "+role+
		"; GRANT SELECT ON pagila.film, pagila.payment TO "+role+
		"; GRANT SELECT (first_name), UPDATE (last_name) ON pagila.actor TO "+role)
}

// startPagila starts clients of the sample database through the proxy.
func startPagila(t *testing.T, dsn pg.DSN, clients int, rate float64) *workload.Workload {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	w, err := workload.Start(context.Background(), workload.Config{DSN: dsn, Scenario: workload.Pagila{}, Clients: clients, PSQL: b.Path("psql"), Rate: rate})
	require.NoError(t, err)
	t.Cleanup(func() { stopClients(w) })
	return w
}

func stopClients(w *workload.Workload) workload.Report {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.Stop(ctx)
}

func awaitEach(t *testing.T, w *workload.Workload, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, w.AwaitEach(ctx, n))
}

// requireLedger fails when an acknowledged transaction is not on the target
// exactly once, or an invariant is broken.
func requireLedger(t *testing.T, s *sides, r workload.Report, scenario workload.Scenario, switches int) history.Result {
	t.Helper()
	conn := pgtest.Conn(t, s.target)
	res, err := history.Check(context.Background(), conn, r.Operations,
		history.Options{Ledger: scenario.Ledger(), Invariants: scenario.Invariants(), Switches: switches})
	require.NoError(t, err)
	require.NoError(t, res.Err())
	require.Positive(t, res.Acknowledged)
	require.Equal(t, res.Acknowledged, res.Found)
	return res
}

// moved is what a migration of the sample database came to.
type moved struct {
	tables, acknowledged int
	pauseMS, heldP99MS   float64
}

// movePagila moves the sample database, which is loaded, to the target under load,
// and fails the test when a client notices or anything is lost.
func movePagila(t *testing.T, s *sides, env ...string) moved {
	t.Helper()
	p := newProcess(t, s)
	p.env = env
	p.start()
	p.awaitServing()
	w := startPagila(t, p.proxied(), 16, 40)
	p.awaitFollowing()
	awaitEach(t, w, 30)
	r := p.cutover()
	awaitEach(t, w, 50)
	p.awaitWhole()
	st := p.await("it tells", func(control.Status) bool { return true })
	require.Equal(t, "on_target", st.Phase)
	require.Equal(t, "equal", st.Verify.State)
	require.EqualValues(t, 0, st.Verify.Differences)
	p.finish()
	awaitEach(t, w, 10)
	load := stopClients(w)
	require.Empty(t, load.ErrorTexts)
	require.Zero(t, load.Errors())
	require.Zero(t, r.ClientErrors)
	res := requireLedger(t, s, load, workload.Pagila{}, 1)
	require.Len(t, res.Sides, 2, "the clients were answered by both sides")
	require.Zero(t, load.Failed+load.Unknown+load.Lost)
	t.Logf("pause %.1f ms, held p99 %.1f ms, %d acknowledged", r.PauseMS, r.Held.P99MS, res.Acknowledged)
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
	return moved{tables: st.Verify.TablesTotal, acknowledged: res.Acknowledged, pauseMS: r.PauseMS, heldP99MS: r.Held.P99MS}
}

func TestPagilaMovesUnderLoadAndNobodyNotices(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadPagila(t, s)
	before := s.dump(t, s.source)
	movePagila(t, s)
	requireSameSchema(t, before, s.dump(t, s.target), "source and target")
	requireSameSchema(t, before, s.dump(t, s.source), "the source before and after")
}
