package changes_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/roles"
)

// pg_dump writes the roles of a policy in the order of rows of the server's catalog. A role that
// was altered is no change of the policy.
func TestTheOrderOfAPolicysRolesIsNoChange(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	source := pgtest.Conn(t, p.Source)
	self := p.Source.User()
	pgtest.Exec(t, source, `CREATE SCHEMA app; CREATE TABLE app.t (id int); CREATE POLICY two ON app.t TO `+p.Reader+`, `+self+` USING (id > 0)`)
	kept, _ := p.Plan(t)
	p.Restore(t, kept, plan.PreData, 1)
	p.Restore(t, kept, plan.AfterCopy, 1)
	policy := func() string { return dumped(t, p, "POLICY").Definition }
	was := policy()
	for _, role := range []string{self, p.Reader} { // each becomes the last row
		pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres")), "ALTER ROLE "+role+" CONNECTION LIMIT 100")
		_, all := changed(t, p, kept)
		require.Empty(t, all)
		if now := policy(); now != was {
			require.Equal(t, roles.Sorted(was), roles.Sorted(now))
			was = ""
		}
	}
	require.Empty(t, was, "pg_dump has written another order, or this shows nothing")
	require.Equal(t, `CREATE POLICY a ON b TO "A", "c", "d" USING ((SELECT 1 FROM x));`, roles.Sorted(`CREATE POLICY a ON b TO d, "A", c USING ((SELECT 1 FROM x));`))
}

// dumped is the one entry of a kind in the source's archive.
func dumped(t *testing.T, p *pairtest.Pair, kind string) *archive.Entry {
	t.Helper()
	var found []*archive.Entry
	for _, e := range readArchive(t, p, true).Entries {
		if e.Kind == kind {
			found = append(found, &e)
		}
	}
	require.Len(t, found, 1)
	return found[0]
}
