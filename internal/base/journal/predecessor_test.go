package journal_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestWhoseSessionsAreAPredecessors ends sessions by what they call themselves, and no others.
func TestWhoseSessionsAreAPredecessors(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	ours := pgtest.Conn(t, dsn)
	for _, c := range []struct {
		name, application string
		ended, endedToo   bool // without and with starts
	}{
		{"an earlier start of the run", "crossfade apply (run r_n OLD11)", true, true},
		{"this start", "crossfade apply (run r_n MINE22)", false, false},
		{"this start, another of its sessions", "crossfade copy (run r_n MINE22 3)", false, false},
		{"one that waits for the lead", "crossfade lead (run r_n OLD11)", false, false},
		{"another run", "crossfade apply (run other OLD11)", false, false},
		{"a run whose name fits as a pattern", "crossfade apply (run rxn OLD11)", false, false},
		{"a run whose name goes on", "crossfade apply (run r_n2 OLD11)", false, false},
		{"a start that knew no run", "crossfade check (start OLD11)", false, true},
		{"this start, ahead of its run", "crossfade check (start MINE22)", false, false},
		{"an application", "myapp apply (run r_n OLD11)", false, false},
		{"an application whose name holds ours", "x crossfade apply (run r_n OLD11)", false, false},
		{"a session of ours without a tag", "crossfade apply", false, false},
	} {
		for _, starts := range []bool{false, true} {
			ended := c.ended
			if starts {
				ended = c.endedToo
			}
			conn := pgtest.Conn(t, dsn, pg.WithParam("application_name", c.application))
			n, err := journal.EndPredecessors(t.Context(), ours, "r_n", "MINE22", starts, time.Minute)
			require.NoError(t, err)
			if ended {
				require.Equal(t, 1, n, c.name)
				require.Error(t, alive(t, conn), c.name)
				continue
			}
			require.Zero(t, n, c.name)
			require.NoError(t, alive(t, conn), c.name)
			pid := conn.PgConn().PID()
			require.NoError(t, conn.Close(t.Context()))
			require.Eventually(t, func() bool { // its server ends a little later
				return pgtest.Value(t, ours, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1", pid) == "0"
			}, pgtest.Timeout, time.Millisecond)
		}
	}
}

func alive(t *testing.T, conn *pgx.Conn) error {
	return pg.Exec(t.Context(), conn, "SELECT 1")
}
