package preflight

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What a run takes for itself is counted against every limit that there is, and named with the figure.
func TestConnectionsThatARunTakesForItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	set := func(o *inquiry.Options) { o.Sessions = [2]int{24, 22} }
	require.Empty(t, f.ask(t, "connections", set))
	role, database := pg.QuoteIdent(f.source.Config().User), pg.QuoteIdent(f.source.Config().Database)
	there := pg.QuoteIdent(f.target.Config().Database)
	for _, x := range []struct {
		take, give, object string
		side               answer.Side
	}{
		{"ALTER ROLE " + role + " CONNECTION LIMIT 23", "ALTER ROLE " + role + " CONNECTION LIMIT -1", "role " + f.source.Config().User, answer.Source},
		{"ALTER DATABASE " + database + " CONNECTION LIMIT 23", "ALTER DATABASE " + database + " CONNECTION LIMIT -1", "database " + f.source.Config().Database, answer.Source},
		{"ALTER DATABASE " + there + " CONNECTION LIMIT 21", "ALTER DATABASE " + there + " CONNECTION LIMIT -1", "database " + f.target.Config().Database, answer.Target},
	} {
		admin := f.sourceAdmin
		if x.side == answer.Target {
			admin = f.targetAdmin
		}
		pgtest.Exec(t, admin, x.take)
		found := f.ask(t, "connections", set)
		require.Equal(t, []seen{{answer.Blocker, "own_connections", x.object}}, short(found), "told once")
		need := map[answer.Side]int{answer.Source: 24, answer.Target: 22}[x.side]
		require.Contains(t, found[0].Detail, fmt.Sprintf("up to %d connections of its own on the %s", need, x.side))
		require.Empty(t, f.ask(t, "connections", set, func(o *inquiry.Options) { o.Resume = true }), "a run that goes on serves with what it gets")
		f.typed(t, found...)
		require.Empty(t, f.ask(t, "connections", set), "the remedy helps")
		pgtest.Exec(t, admin, x.give)
	}
	found := allowance{RoleLimit: -1, BaseLimit: -1, ServerLimit: 97, ServerUse: 80}.findings(answer.Target, 22)
	require.Equal(t, []seen{{answer.Blocker, "own_connections", "max_connections"}}, short(found))
	require.Contains(t, found[0].Remedy, "raise max_connections of the target by 5")
	require.Empty(t, allowance{RoleLimit: -1, BaseLimit: -1, ServerLimit: 97, ServerUse: 75}.findings(answer.Target, 22))
}
