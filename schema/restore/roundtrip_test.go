package restore_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/catalog"
	"crossfade/schema/fingerprint"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// moveSchema restores everything on the target as a cutover does.
func moveSchema(t *testing.T, p *pairtest.Pair, planned *plan.Plan, db *catalog.Database) {
	t.Helper()
	conn := pgtest.Conn(t, p.Target)
	p.Restore(t, planned, plan.PreData, 3)
	require.NoError(t, restore.Run(t.Context(), conn, plan.IdentityByDefault(db)))
	p.Restore(t, planned, plan.AfterCopy, 3)
	noDrift(t, p, fingerprint.Options{Deferred: true, Checks: planned.LateChecks()})

	sql, err := planned.DecisionSQL(plan.DecisionConfig{Source: db, Target: db.Version / 10000, Roles: p.Roles})
	require.NoError(t, err)
	pgtest.Exec(t, conn, "BEGIN")
	require.NoError(t, restore.Run(t.Context(), conn, sql.Decide))
	pgtest.Exec(t, conn, "ROLLBACK")
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_constraint WHERE contype = 'f'`), "a rehearsal leaves nothing")
	pairtest.InTx(t, conn, func() error { return restore.Run(t.Context(), conn, sql.Decide) })
	pairtest.RunAfter(t, conn, sql.After)
	pairtest.RunAfter(t, conn, sql.After)
	report := p.Restore(t, planned, plan.Decision, 1)
	require.Zero(t, report.Done, "the decision's statements are recorded")
	p.Restore(t, planned, plan.Last, 1)
	refused, err := restore.RefreshMatViews(t.Context(), conn, db.MatViews, "")
	require.NoError(t, err)
	require.Empty(t, refused)
}

func noDrift(t *testing.T, p *pairtest.Pair, opts fingerprint.Options) {
	t.Helper()
	a, err := fingerprint.Take(t.Context(), pgtest.Conn(t, p.Source), opts)
	require.NoError(t, err)
	b, err := fingerprint.Take(t.Context(), pgtest.Conn(t, p.Target), opts)
	require.NoError(t, err)
	require.NotEmpty(t, a.Objects)
	for _, d := range fingerprint.Drift(a, b) {
		t.Errorf("drift: %s", d)
	}
	if !t.Failed() {
		require.Empty(t, fingerprint.Drift(b, a))
	}
}

func TestRoundTripObjects(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	plan, db := p.Plan(t)
	moveSchema(t, p, plan, db)

	require.Equal(t, pairtest.DumpText(t, p.Source, p.Roles), pairtest.DumpText(t, p.Target, nil))
	noDrift(t, p, fingerprint.Options{})

	conn := pgtest.Conn(t, p.Target)
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_class WHERE relpersistence = 'u'`))
	require.Equal(t, "false", pgtest.Value(t, conn, `SELECT relispopulated FROM pg_class WHERE relname = 'never'`))
	require.Equal(t, "true", pgtest.Value(t, conn, `SELECT bool_and(relispopulated) FROM pg_class WHERE relname IN ('z_first', 'a_second')`))
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_constraint k LEFT JOIN pg_constraint p ON p.oid = k.conparentid
		WHERE k.contype = 'f' AND NOT k.convalidated AND k.conname <> 'loose_order' AND k.conrelid IS DISTINCT FROM p.conrelid`))
}

func TestRoundTripLibrary(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadLibrary(t)
	plan, db := p.Plan(t)
	moveSchema(t, p, plan, db)
	require.Equal(t, pairtest.DumpText(t, p.Source, p.Roles), pairtest.DumpText(t, p.Target, nil))
	noDrift(t, p, fingerprint.Options{})
}

func TestRoundTripPagila(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	loadPagila(t, p)
	plan, db := p.Plan(t)
	moveSchema(t, p, plan, db)
	require.Equal(t, pairtest.DumpText(t, p.Source, p.Roles), pairtest.DumpText(t, p.Target, nil))
	noDrift(t, p, fingerprint.Options{})
}

// pagila is the sample database's directory, next to the repository.
const pagila = "../../../shared/testdata/pagila"

func loadPagila(t *testing.T, p *pairtest.Pair) {
	t.Helper()
	sql, err := os.ReadFile(filepath.Join(pagila, "pagila-schema.sql"))
	if err != nil {
		t.Skipf("the sample database pagila is not beside the repository: %v", err)
	}
	conn := pgtest.Conn(t, p.Source)
	pgtest.Exec(t, conn, "CREATE SCHEMA pagila")
	pgtest.Exec(t, conn, regexp.MustCompile(`(?m)^ALTER .* OWNER TO .*;$`).ReplaceAllString(string(sql), ""))
}
