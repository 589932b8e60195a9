package largeobject_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/extras/largeobject"
)

// A row that was written more than half a round of transaction numbers ago is none of those that
// are newer than a snapshot, although its xmin, which freezing keeps, looks as if it were to come.
func TestRowsOfAnEarlierRoundAreNotNewer(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	snapshot := pgtest.Value(t, conn, `SELECT txid_current_snapshot()::text`)
	newer, err := largeobject.Newer(snapshot)
	require.NoError(t, err)
	const now = "(txid_current() & 4294967295)"
	for xid, is := range map[string]bool{now: true, now + " - 1000": false, "(" + now + " + 1000) & 4294967295": false, "(" + now + " + 2000000000) & 4294967295": false} {
		sql := "SELECT " + strings.ReplaceAll(newer, "xmin", fmt.Sprintf("(%s)::text::xid", xid))
		require.Equal(t, map[bool]string{true: "true", false: "false"}[is], pgtest.Value(t, conn, strings.Replace(sql, "SELECT ", "SELECT (", 1)+")::text"), xid)
	}
}
