package e2e_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/internal/lab/workload"
)

// TestSerializableTransactionsStaySoAcrossACutover: what transactions read and append on both sides
// fits one serial execution, in the order of time.
func TestSerializableTransactionsStaySoAcrossACutover(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, workload.Lists{}.Load(ctx, pgtest.Conn(t, s.source)))
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	w := startClients(t, p.proxied(), workload.Lists{}, 12, 40)
	p.awaitFollowing()
	awaitEach(t, w, 50)
	r := p.cutover()
	awaitEach(t, w, 50)
	load := stopClients(w)
	for _, o := range load.Operations {
		if o.Outcome != history.OK {
			require.Contains(t, o.Error, pg.CodeSerializationFailure)
		}
	}
	require.Zero(t, r.ClientErrors)
	res, err := history.Check(ctx, pgtest.Conn(t, s.target), load.Operations, workload.Options(workload.Lists{}, 1))
	require.NoError(t, err)
	require.NoError(t, res.Err())
	require.Len(t, res.Sides, 2, "the clients were answered by both sides")
	require.Greater(t, res.ListTransactions, 12*100/2)
	require.Equal(t, res.Acknowledged, res.Found)
	p.awaitWhole()
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
