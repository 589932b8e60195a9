package workload

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// weak are lists whose transactions run at isolation level read committed.
type weak struct{ Lists }

func (weak) steps(rng *rand.Rand) []step {
	p := &appender{rng: rng}
	return []step{{kind: "lists", weight: 1, explicit: func(ctx context.Context, w *work) error {
		begin := w.query
		w.query = func(ctx context.Context, st statement) ([][]string, error) {
			st.sql = strings.Replace(st.sql, "SERIALIZABLE", "READ COMMITTED", 1)
			return begin(ctx, st)
		}
		return p.transact(ctx, w)
	}}}
}

// listsOn runs a scenario of lists and returns what the checker finds.
func listsOn(t *testing.T, sc Scenario) history.Result {
	t.Helper()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	require.NoError(t, Lists{}.Load(bounded(t), pgtest.Conn(t, dsn)))
	w := begin(t, Config{DSN: dsn, Scenario: sc, Clients: len(Drivers())})
	require.NoError(t, w.AwaitEach(bounded(t), 100))
	rep := w.Stop(bounded(t))
	for _, o := range rep.Operations {
		if o.Outcome != history.OK {
			require.Contains(t, o.Error, pg.CodeSerializationFailure)
		}
	}
	res, err := history.Check(bounded(t), pgtest.Conn(t, dsn), rep.Operations, Options(sc, 0))
	require.NoError(t, err)
	t.Log(res)
	require.Greater(t, res.ListTransactions, 100*len(Drivers())/2)
	return res
}

// TestSerializableTransactionsOnListsHaveNoCycle, and those of a weaker level have, so that the
// checker would tell.
func TestSerializableTransactionsOnListsHaveNoCycle(t *testing.T) {
	t.Parallel()
	require.NoError(t, listsOn(t, Lists{}).Err())
	res := listsOn(t, weak{})
	require.Positive(t, res.Cycles.Count)
	require.Zero(t, res.Lost.Count+res.Doubled.Count+res.Phantom.Count+res.Unrecorded.Count)
}
