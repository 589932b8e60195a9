package e2e_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/internal/lab/workload"
)

// sample is a database with an application of its own.
type sample struct {
	schema   string // that holds all of it; the names of the template and of its owner begin with it
	scenario workload.Scenario
	dir      string                                                              // where its files are, "" where it needs none
	load     func(ctx context.Context, c *pgcluster.Cluster, owner pg.DSN) error // makes schema and rows, without the ledger
	rest     string                                                              // statements that add what it lacks
	rights   string                                                              // that ROLE gets

	once sync.Once
	err  error
}

// library is the sample that every clone of the repository has.
var library = &sample{schema: "library", scenario: workload.Library{},
	load: func(ctx context.Context, _ *pgcluster.Cluster, owner pg.DSN) error {
		conn, err := pg.Connect(ctx, owner, pg.WithName("test"))
		if err != nil {
			return err
		}
		return errors.Join(workload.Library{}.Load(ctx, conn), conn.Close(ctx))
	},
	rights: "GRANT SELECT ON library.book, library.fee TO ROLE; GRANT SELECT (first_name), UPDATE (last_name) ON library.author TO ROLE",
}

// pagila is the sample database of that name, which may be next to the repository.
var pagila = &sample{schema: "pagila", scenario: workload.Pagila{}, dir: "../../shared/testdata/pagila",
	load: func(ctx context.Context, c *pgcluster.Cluster, owner pg.DSN) error {
		return workload.LoadPagila(ctx, c.Binaries().Path("psql"), "../../shared/testdata/pagila", owner)
	},
	rest:   "ALTER TABLE pagila.payment ADD CONSTRAINT payment_staff_fkey FOREIGN KEY (staff_id) REFERENCES pagila.staff (staff_id)",
	rights: "GRANT SELECT ON pagila.film, pagila.payment TO ROLE; GRANT SELECT (first_name), UPDATE (last_name) ON pagila.actor TO ROLE",
}

// samples are those that are here.
func samples() []*sample {
	return slices.DeleteFunc([]*sample{library, pagila}, func(s *sample) bool { return !s.here() })
}

func (m *sample) here() bool {
	if m.dir == "" {
		return true
	}
	_, err := os.Stat(m.dir)
	return err == nil
}

func (m *sample) template() string { return m.schema + "_template" }
func (m *sample) owner() string    { return m.schema + "_owner" }

// make loads the sample into its template, and adds the ledger.
func (m *sample) make(c *pgcluster.Cluster) error {
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	admin, err := pg.Connect(ctx, c.AdminDSN("postgres"), pg.WithName("test"))
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(ctx) }()
	for _, sql := range []string{
		"CREATE ROLE " + m.owner() + " LOGIN PASSWORD 'sample'",
		"CREATE DATABASE " + m.template() + " TEMPLATE template0",
		"GRANT CREATE ON DATABASE " + m.template() + " TO " + m.owner(),
	} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	ledger := history.LedgerDDL(m.scenario.Ledger())
	if c.Binaries().Major < 13 { // gen_random_uuid, which the ledger needs, is an extension's
		ledger = strings.ReplaceAll(ledger, "gen_random_uuid", "public.gen_random_uuid")
		template, err := pg.Connect(ctx, c.AdminDSN(m.template()), pg.WithName("test"))
		if err != nil {
			return err
		}
		_, err = template.Exec(ctx, "CREATE EXTENSION pgcrypto SCHEMA public")
		if err = errors.Join(err, template.Close(ctx)); err != nil {
			return err
		}
	}
	dsn := c.DSN(m.owner(), "sample", m.template())
	if err := m.load(ctx, c, dsn); err != nil {
		return err
	}
	owner, err := pg.Connect(ctx, dsn, pg.WithName("test"))
	if err != nil {
		return err
	}
	defer func() { _ = owner.Close(ctx) }()
	_, err = owner.PgConn().Exec(ctx, ledger+"; "+m.rest).ReadAll()
	return err
}

// fill copies the sample into the source, as its owner, and gives another role
// privileges on it.
func (m *sample) fill(t *testing.T, s *sides) {
	t.Helper()
	database := s.source.Database()
	root := adminOf(t, s.sourceCluster, "postgres")
	if s.sourceCluster == pgtest.Shared(t, pgtest.Source) {
		m.once.Do(func() { m.err = m.make(s.sourceCluster) })
		require.NoError(t, m.err)
	} else {
		require.NoError(t, m.make(s.sourceCluster))
	}
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	require.NoError(t, pgtest.DropDatabase(ctx, root, database))
	pgtest.Exec(t, root, "CREATE DATABASE "+database+" OWNER "+s.source.User()+" TEMPLATE "+m.template())
	pgtest.Exec(t, root, "REVOKE CONNECT ON DATABASE "+database+" FROM PUBLIC")
	pgtest.Exec(t, adminOf(t, s.sourceCluster, database), "REASSIGN OWNED BY "+m.owner()+" TO "+s.source.User())
	conn := pgtest.Conn(t, s.source)
	role := "reader_" + database
	for database, c := range map[string]*pgcluster.Cluster{database: s.sourceCluster, s.target.Database(): s.targetCluster} {
		pgtest.Exec(t, adminOf(t, c, "postgres"), "CREATE ROLE "+role)
		t.Cleanup(func() { pgtest.DropRole(t, c, database, role) })
	}
	pgtest.Exec(t, conn, "GRANT USAGE ON SCHEMA "+m.schema+" TO "+role+"; "+strings.ReplaceAll(m.rights, "ROLE", role))
}

// clients starts clients of the sample through the proxy.
func (m *sample) clients(t *testing.T, dsn pg.DSN, clients int, rate float64) *workload.Workload {
	t.Helper()
	return startClients(t, dsn, m.scenario, clients, rate)
}

// startClients starts clients of a scenario, each with so many transactions in a second. They end
// with the test.
func startClients(t *testing.T, dsn pg.DSN, sc workload.Scenario, clients int, rate float64) *workload.Workload {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	w, err := workload.Start(context.Background(), workload.Config{DSN: dsn, Scenario: sc, Clients: clients, PSQL: b.Path("psql"), Rate: rate})
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
	res, err := history.Check(context.Background(), conn, r.Operations, workload.Options(scenario, switches))
	require.NoError(t, err)
	require.NoError(t, res.Err())
	require.Positive(t, res.Acknowledged)
	require.Equal(t, res.Acknowledged, res.Found)
	return res
}

// moved is what a migration of a sample came to.
type moved struct {
	tables, acknowledged int
	pauseMS, heldP99MS   float64
}

// move moves the sample, which is in the source, to the target under load, and fails
// the test when a client notices or anything is lost.
func (m *sample) move(t *testing.T, s *sides, env ...string) moved {
	t.Helper()
	p := newProcess(t, s)
	p.env = env
	p.start()
	p.awaitServing()
	w := m.clients(t, p.proxied(), 16, 40)
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
	res := requireLedger(t, s, load, m.scenario, 1)
	require.Len(t, res.Sides, 2, "the clients were answered by both sides")
	require.Zero(t, load.Failed+load.Unknown+load.Lost)
	t.Logf("pause %.1f ms, held p99 %.1f ms, %d acknowledged", r.PauseMS, r.Held.P99MS, res.Acknowledged)
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
	return moved{tables: st.Verify.TablesTotal, acknowledged: res.Acknowledged, pauseMS: r.PauseMS, heldP99MS: r.Held.P99MS}
}

func TestASampleMovesUnderLoadAndNobodyNotices(t *testing.T) {
	t.Parallel()
	for _, m := range samples() {
		t.Run(m.schema, func(t *testing.T) {
			t.Parallel()
			s := newSides(t)
			m.fill(t, s)
			before := s.dump(t, s.source)
			m.move(t, s)
			requireSameSchema(t, before, s.dump(t, s.target), "source and target")
			requireSameSchema(t, before, s.dump(t, s.source), "the source before and after")
		})
	}
}

// TestTheLibraryIsAmongTheSamples: a clone with nothing next to it tries at least this one.
func TestTheLibraryIsAmongTheSamples(t *testing.T) {
	t.Parallel()
	require.Contains(t, samples(), library)
	require.Empty(t, library.dir, "it is in the repository")
}
