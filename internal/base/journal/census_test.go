package journal_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestTheCensusSeesWritersWhenNobodyIsAtTheProxy: a proxy without sessions has no list of
// server connections, and that is no reason to see nobody.
func TestTheCensusSeesWritersWhenNobodyIsAtTheProxy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "SET application_name = 'billing'")
	pid := int32(app.PgConn().PID())
	for name, proxied := range map[string][]int32{"nil": nil, "empty": {}, "of others": {1, 2}} {
		writers, err := journal.Census(ctx, conn, proxied)
		require.NoError(t, err, name)
		i := slices.IndexFunc(writers, func(w journal.Writer) bool { return w.PID == pid })
		require.GreaterOrEqual(t, i, 0, name)
		require.Equal(t, "billing", writers[i].Application)
		require.Equal(t, dsn.User(), writers[i].User)
	}
	writers, err := journal.Census(ctx, conn, []int32{pid})
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(writers, func(w journal.Writer) bool { return w.PID == pid }), "it is at the proxy")
}

// TestServerConnectionsThatHaveEndedAreForgottenWithTheLast: the list of those that live is
// nil when the last client has left.
func TestServerConnectionsThatHaveEndedAreForgottenWithTheLast(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	app := pgtest.Conn(t, dsn)
	require.NoError(t, journal.RegisterBackends(ctx, conn, "me", []int32{int32(app.PgConn().PID())}))
	require.Equal(t, "1", pgtest.Value(t, conn, "SELECT count(*) FROM crossfade.backend"))
	require.NoError(t, app.Close(ctx))
	require.Eventually(t, func() bool {
		require.NoError(t, journal.RegisterBackends(ctx, conn, "me", nil))
		return pgtest.Value(t, conn, "SELECT count(*) FROM crossfade.backend") == "0"
	}, pgtest.Timeout, pgtest.Timeout/1000)
}
