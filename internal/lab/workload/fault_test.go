package workload

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/history"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// The answer to a COMMIT never comes: unknown to the client, there in the ledger.
func TestLostAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	for _, d := range []Driver{CacheStatement, PSQL} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			dsn := shop(t)
			relay, moved := throughRelay(t, dsn)
			w := begin(t, Config{DSN: moved, Scenario: onlyTransfers{small}, Clients: 1, Drivers: []Driver{d}})
			require.NoError(t, w.AwaitEach(bounded(t), 3))
			// A transfer has five answers, the last is that to COMMIT; readings of
			// one's own token come in between.
			for n := 1; w.Totals().Unknown == 0; n++ {
				require.Less(t, n, 100)
				fired := relay.Arm(netfault.Trap{Direction: netfault.ToClient, Type: 'Z', N: 10 + n%5})
				select {
				case <-fired:
				case <-bounded(t).Done():
					t.Fatal("the trap did not spring")
				}
				require.NoError(t, w.AwaitEach(bounded(t), 1))
			}
			require.NoError(t, w.AwaitEach(bounded(t), 3))
			rep := w.Stop(bounded(t))
			require.Positive(t, rep.Unknown)
			require.Positive(t, rep.Lost)
			require.GreaterOrEqual(t, rep.Lost, rep.Reconnected)
			require.Positive(t, rep.Reconnected)
			require.NotEmpty(t, rep.ErrorTexts)
			res := verdict(t, dsn, small, rep)
			require.NoError(t, res.Err())
			require.Positive(t, res.UnknownFound)
		})
	}
}

// onlyTransfers leaves the explicit transfers of a shop.
type onlyTransfers struct{ Shop }

func (s onlyTransfers) steps(rng *rand.Rand) []step { return s.Shop.steps(rng)[:1] }

// Connections are reset over and over: whatever the clients are told stays true.
func TestCutsUnderLoad(t *testing.T) {
	t.Parallel()
	dsn := shop(t)
	relay, moved := throughRelay(t, dsn)
	w := begin(t, Config{DSN: moved, Scenario: small, Clients: len(Drivers())})
	for range 4 {
		require.NoError(t, w.AwaitEach(bounded(t), 5))
		require.Positive(t, relay.Cut(netfault.Reset))
	}
	require.NoError(t, w.AwaitEach(bounded(t), 5))
	rep := w.Stop(bounded(t))
	require.Equal(t, 4*len(Drivers()), rep.Lost)
	require.Equal(t, 4*len(Drivers()), rep.Reconnected)
	require.GreaterOrEqual(t, rep.Totals.Errors(), rep.Lost)
	require.NoError(t, verdict(t, dsn, small, rep).Err())
}

// A pause of the network is felt by every client, and by none as an error.
func TestStallIsFeltAndMeasured(t *testing.T) {
	t.Parallel()
	relay, moved := throughRelay(t, shop(t))
	w := begin(t, Config{DSN: moved, Scenario: small, Clients: len(Drivers())})
	require.NoError(t, w.AwaitEach(bounded(t), 5))
	const pause = 300 * time.Millisecond
	at := time.Now()
	relay.Stall(true)
	<-time.After(pause)
	relay.Stall(false)
	require.NoError(t, w.AwaitEach(bounded(t), 5))
	rep := w.Stop(bounded(t))
	clean(t, rep, 10)
	stalls := rep.StallsAround(at.Add(pause/2), pause/4)
	require.Len(t, stalls, len(Drivers()))
	for _, s := range stalls {
		require.GreaterOrEqual(t, s.Took, pause/2)
	}
	require.GreaterOrEqual(t, rep.Trips.Max, pause/2)
}

// A token that vanishes is missed by its client in the middle of the run.
func TestClientMissesItsToken(t *testing.T) {
	t.Parallel()
	dsn := shop(t)
	conn := pgtest.Conn(t, dsn)
	w := begin(t, Config{DSN: dsn, Scenario: small, Clients: 1, Drivers: []Driver{Exec}})
	require.NoError(t, w.AwaitEach(bounded(t), 1))
	for w.Totals().Stale == 0 {
		pgtest.Exec(t, conn, "DELETE FROM shop.ledger")
		require.NoError(t, w.AwaitEach(bounded(t), 1))
	}
	res := verdict(t, dsn, small, w.Stop(bounded(t)))
	require.Positive(t, res.Stale.Count)
	require.Positive(t, res.Lost.Count)
	require.False(t, res.OK())
}

// A refused transaction is a failed one and leaves the session as it is.
func TestRefusedTransactionIsFailed(t *testing.T) {
	t.Parallel()
	dsn := shop(t)
	conn := pgtest.Conn(t, dsn)
	w := begin(t, Config{DSN: dsn, Scenario: small, Clients: len(Drivers())})
	require.NoError(t, w.AwaitEach(bounded(t), 3))
	pgtest.Exec(t, conn, `ALTER TABLE shop.ledger ADD CONSTRAINT no_more CHECK (at < now()) NOT VALID`)
	for failed := 0; failed < 3*len(Drivers()); failed = w.Totals().Failed {
		<-w.news.next()
	}
	pgtest.Exec(t, conn, `ALTER TABLE shop.ledger DROP CONSTRAINT no_more`)
	require.NoError(t, w.AwaitEach(bounded(t), 3))
	rep := w.Stop(bounded(t))
	require.Positive(t, rep.Failed)
	require.Zero(t, rep.Unknown)
	require.Zero(t, rep.Lost)
	res := verdict(t, dsn, small, rep)
	require.NoError(t, res.Err())
	for _, o := range rep.Operations {
		if o.Outcome == history.Failed {
			require.Contains(t, o.Error, "no_more")
		}
	}
}

// No answer comes within its bound: the client gives the connection up.
func TestAnswerTimeout(t *testing.T) {
	t.Parallel()
	for _, d := range []Driver{SimpleProtocol, PSQL} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			dsn := shop(t)
			relay, moved := throughRelay(t, dsn)
			w := begin(t, Config{DSN: moved, Scenario: small, Clients: 1, Drivers: []Driver{d}, AnswerTimeout: 500 * time.Millisecond})
			require.NoError(t, w.AwaitEach(bounded(t), 3))
			relay.Cut(netfault.Silence)
			require.NoError(t, w.AwaitEach(bounded(t), 3))
			rep := w.Stop(bounded(t))
			require.Equal(t, 1, rep.Lost)
			require.Equal(t, 1, rep.Reconnected)
			require.NoError(t, verdict(t, dsn, small, rep).Err())
		})
	}
}
