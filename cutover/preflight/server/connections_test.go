package server

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What a run takes for itself is counted against every limit that there is, and named with the
// figure.
func TestConnectionsThatARunTakesForItself(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	set := func(o *inquiry.Options) { o.Sessions = [2]int{24, 22} }
	require.Empty(t, f.Ask(t, Connections, set))
	role, database := pg.QuoteIdent(f.Source.Config().User), pg.QuoteIdent(f.Source.Config().Database)
	there := pg.QuoteIdent(f.Target.Config().Database)
	for _, x := range []struct {
		take, give, object string
		side               answer.Side
	}{
		{"ALTER ROLE " + role + " CONNECTION LIMIT 23", "ALTER ROLE " + role + " CONNECTION LIMIT -1", "role " + f.Source.Config().User, answer.Source},
		{"ALTER DATABASE " + database + " CONNECTION LIMIT 23", "ALTER DATABASE " + database + " CONNECTION LIMIT -1", "database " + f.Source.Config().Database, answer.Source},
		{"ALTER DATABASE " + there + " CONNECTION LIMIT 21", "ALTER DATABASE " + there + " CONNECTION LIMIT -1", "database " + f.Target.Config().Database, answer.Target},
	} {
		admin := f.SourceAdmin
		if x.side == answer.Target {
			admin = f.TargetAdmin
		}
		pgtest.Exec(t, admin, x.take)
		found := f.Ask(t, Connections, set)
		require.Equal(t, []preflighttest.Seen{{answer.Blocker, "own_connections", x.object}}, preflighttest.Short(found), "told once")
		need := map[answer.Side]int{answer.Source: 24, answer.Target: 22}[x.side]
		require.Contains(t, found[0].Detail, fmt.Sprintf("up to %d connections of its own on the %s", need, x.side))
		require.Empty(t, f.Ask(t, Connections, set, func(o *inquiry.Options) { o.Resume = true }), "a run that goes on serves with what it gets")
		f.Typed(t, found...)
		require.Empty(t, f.Ask(t, Connections, set), "the remedy helps")
		pgtest.Exec(t, admin, x.give)
	}
	found := allowance{RoleLimit: -1, BaseLimit: -1, ServerLimit: 97, ServerUse: 80}.findings(answer.Target, 22)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "own_connections", "max_connections"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Remedy, "raise max_connections of the target by 5")
	require.Empty(t, allowance{RoleLimit: -1, BaseLimit: -1, ServerLimit: 97, ServerUse: 75}.findings(answer.Target, 22))
}
