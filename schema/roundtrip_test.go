package schema

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/pgcluster/pgtest"
	"crossfade/schema/catalog"
)

// moveSchema restores everything on the target as a cutover does.
func (p *pair) moveSchema(t *testing.T, plan *Plan, db *catalog.Database) {
	t.Helper()
	conn := pgtest.Conn(t, p.target)
	p.restore(t, plan, PreData, 3)
	require.NoError(t, Run(t.Context(), conn, IdentityByDefault(db)))
	p.restore(t, plan, AfterCopy, 3)
	p.noDrift(t, FingerprintOptions{Deferred: true, Checks: plan.LateChecks()})

	sql, err := plan.DecisionSQL(DecisionConfig{Source: db, Target: db.Version / 10000, Roles: p.roles})
	require.NoError(t, err)
	pgtest.Exec(t, conn, "BEGIN")
	require.NoError(t, Run(t.Context(), conn, sql.Decide))
	pgtest.Exec(t, conn, "ROLLBACK")
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_constraint WHERE contype = 'f'`), "a rehearsal leaves nothing")
	inTx(t, conn, func() error { return Run(t.Context(), conn, sql.Decide) })
	runAfter(t, conn, sql.After)
	runAfter(t, conn, sql.After)
	report := p.restore(t, plan, Decision, 1)
	require.Zero(t, report.Done, "the decision's statements are recorded")
	p.restore(t, plan, Last, 1)
	refused, err := RefreshMatViews(t.Context(), conn, db.MatViews, "")
	require.NoError(t, err)
	require.Empty(t, refused)
}

func (p *pair) noDrift(t *testing.T, opts FingerprintOptions) {
	t.Helper()
	a, err := TakeFingerprint(t.Context(), pgtest.Conn(t, p.source), opts)
	require.NoError(t, err)
	b, err := TakeFingerprint(t.Context(), pgtest.Conn(t, p.target), opts)
	require.NoError(t, err)
	require.NotEmpty(t, a.Objects)
	for _, d := range Drift(a, b) {
		t.Errorf("drift: %s", d)
	}
	if !t.Failed() {
		require.Empty(t, Drift(b, a))
	}
}

func TestRoundTripObjects(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.loadObjects(t)
	plan, db := p.plan(t)
	p.moveSchema(t, plan, db)

	require.Equal(t, dumpText(t, p.source, p.roles), dumpText(t, p.target, nil))
	p.noDrift(t, FingerprintOptions{})

	conn := pgtest.Conn(t, p.target)
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_class WHERE relpersistence = 'u'`))
	require.Equal(t, "false", pgtest.Value(t, conn, `SELECT relispopulated FROM pg_class WHERE relname = 'never'`))
	require.Equal(t, "true", pgtest.Value(t, conn, `SELECT bool_and(relispopulated) FROM pg_class WHERE relname IN ('z_first', 'a_second')`))
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_constraint k LEFT JOIN pg_constraint p ON p.oid = k.conparentid
		WHERE k.contype = 'f' AND NOT k.convalidated AND k.conname <> 'loose_order' AND k.conrelid IS DISTINCT FROM p.conrelid`))
}

func TestRoundTripLibrary(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.loadLibrary(t)
	plan, db := p.plan(t)
	p.moveSchema(t, plan, db)
	require.Equal(t, dumpText(t, p.source, p.roles), dumpText(t, p.target, nil))
	p.noDrift(t, FingerprintOptions{})
}

func TestRoundTripPagila(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.loadPagila(t)
	plan, db := p.plan(t)
	p.moveSchema(t, plan, db)
	require.Equal(t, dumpText(t, p.source, p.roles), dumpText(t, p.target, nil))
	p.noDrift(t, FingerprintOptions{})
}
