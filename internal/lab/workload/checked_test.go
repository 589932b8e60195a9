package workload

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// checked is a scenario whose operations a checker of its own judges.
type checked interface {
	Scenario
	Load(ctx context.Context, conn *pgx.Conn) error
}

// altered is a scenario whose clients send another statement, so that its checker has something to tell.
type altered struct {
	checked
	from, to string // parts of the statement
}

func (a altered) judged(opt *history.Options) { *opt = Options(a.checked, opt.Switches) }

func (a altered) steps(rng *rand.Rand) []step {
	steps := a.checked.steps(rng)
	for i, s := range steps {
		if s.read != nil {
			steps[i].read = func(ctx context.Context, w *work) error { return s.read(ctx, a.instead(w)) }
		}
		if s.explicit != nil {
			steps[i].explicit = func(ctx context.Context, w *work) error { return s.explicit(ctx, a.instead(w)) }
		}
	}
	return steps
}

func (a altered) instead(w *work) *work {
	query := w.query
	w.query = func(ctx context.Context, st statement) ([][]string, error) {
		st.sql = strings.Replace(st.sql, a.from, a.to, 1)
		return query(ctx, st)
	}
	return w
}

// run runs a scenario with every driver and returns what its clients did and what is found of it.
func run(t *testing.T, sc checked) (Report, history.Result) {
	t.Helper()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	require.NoError(t, sc.Load(bounded(t), pgtest.Conn(t, dsn)))
	w := begin(t, Config{DSN: dsn, Scenario: sc, Clients: len(Drivers())})
	require.NoError(t, w.AwaitEach(bounded(t), 60))
	rep := w.Stop(bounded(t))
	return rep, verdict(t, dsn, sc, rep)
}

func TestCheckedScenariosWithEveryDriver(t *testing.T) {
	t.Parallel()
	judged := func(res history.Result) int { return res.RegisterOps + min(res.Transfers, res.BalancesRead) + res.Keys }
	for _, sc := range []checked{Registers{}, Bank{}, Keys{}} {
		t.Run(sc.searchPath(), func(t *testing.T) {
			t.Parallel()
			rep, res := run(t, sc)
			clean(t, rep, 60)
			seen(t, sc, rep)
			require.NoError(t, res.Err())
			require.Equal(t, res.Acknowledged, res.Found)
			require.Greater(t, judged(res), 60, "its own checker has judged something")
		})
	}
}

// forgetful are registers whose clients are told, by each read but the first of a key, what the first one found.
type forgetful struct{ Registers }

func (forgetful) steps(rng *rand.Rand) []step {
	steps := Registers{}.steps(rng)
	first := map[int64]int64{}
	read := steps[0].read
	steps[0].read = func(ctx context.Context, w *work) error {
		if err := read(ctx, w); err != nil {
			return err
		}
		op := w.op.Register
		if old, known := first[op.Key]; known {
			op.Read = old
		}
		first[op.Key] = op.Read
		return nil
	}
	return steps
}

func TestRegistersTellAReadThatIsOld(t *testing.T) {
	t.Parallel()
	_, res := run(t, forgetful{})
	require.Positive(t, res.NotLinearizable.Count)
	res.NotLinearizable = history.Finding{}
	require.NoError(t, res.Err())
}

// TestBankTellsASnapshotThatIsNone: balances of several moments.
func TestBankTellsASnapshotThatIsNone(t *testing.T) {
	t.Parallel()
	_, res := run(t, altered{altered{Bank{}, "REPEATABLE READ", "READ COMMITTED"}, "SERIALIZABLE", "READ COMMITTED"})
	require.Positive(t, res.Unbalanced.Count)
	res.Unbalanced = history.Finding{}
	require.NoError(t, res.Err())
}

// TestBankTellsMoneyThatIsMade: some transfers add more than they take.
func TestBankTellsMoneyThatIsMade(t *testing.T) {
	t.Parallel()
	_, res := run(t, altered{Bank{}, "balance + $2::bigint", "balance + $2::bigint + ($2::bigint > 40)::int"})
	require.Positive(t, res.Unbalanced.Count)
	res.Unbalanced = history.Finding{}
	require.NoError(t, res.Err())
}

// TestKeysTellARequestThatIsNotGuarded: the key is new each time.
func TestKeysTellARequestThatIsNotGuarded(t *testing.T) {
	t.Parallel()
	_, res := run(t, altered{Keys{}, "DO NOTHING", "DO UPDATE SET key = excluded.key"})
	require.Positive(t, res.Doubled.Count)
	require.Positive(t, res.Unobserved.Count)
}

// loseAnswers cuts the connection of the only client of w at an answer, again and again, until the
// answer was that to a COMMIT which took place.
func loseAnswers(t *testing.T, relay *netfault.Relay, w *Workload) {
	t.Helper()
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
}

// TestOutcomesThatAreUnknownAreJudged: each scenario goes on after an answer was lost, and what took
// place without its client knowing is neither missed nor found too often.
func TestOutcomesThatAreUnknownAreJudged(t *testing.T) {
	t.Parallel()
	for _, sc := range []checked{Lists{}, Registers{}, Bank{}, Keys{}} {
		t.Run(sc.searchPath(), func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
			require.NoError(t, sc.Load(bounded(t), pgtest.Conn(t, dsn)))
			relay, moved := throughRelay(t, dsn)
			w := begin(t, Config{DSN: moved, Scenario: sc, Clients: 1, Drivers: []Driver{Exec}})
			require.NoError(t, w.AwaitEach(bounded(t), 3))
			loseAnswers(t, relay, w)
			require.NoError(t, w.AwaitEach(bounded(t), 3))
			rep := w.Stop(bounded(t))
			require.Positive(t, rep.Unknown)
			res := verdict(t, dsn, sc, rep)
			require.NoError(t, res.Err())
			require.Positive(t, res.UnknownFound)
		})
	}
}

// TestARequestIsTriedUntilItHasAnAnswer: the answer to its COMMIT was lost, and the client is told
// the next time that the key is there, though no other client has it.
func TestARequestIsTriedUntilItHasAnAnswer(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	require.NoError(t, Keys{}.Load(bounded(t), pgtest.Conn(t, dsn)))
	relay, moved := throughRelay(t, dsn)
	w := begin(t, Config{DSN: moved, Scenario: Keys{}, Clients: 1, Drivers: []Driver{Exec}})
	require.NoError(t, w.AwaitEach(bounded(t), 3))
	loseAnswers(t, relay, w)
	require.NoError(t, w.AwaitEach(bounded(t), 3))
	rep := w.Stop(bounded(t))
	var unknown *history.Attempt
	again := 0
	for _, o := range rep.Operations {
		switch {
		case o.Attempt == nil:
		case o.Outcome == history.Unknown:
			unknown = o.Attempt
		case unknown != nil && o.Attempt.Key == unknown.Key && o.Outcome == history.OK:
			require.False(t, o.Attempt.New, "the first attempt took place")
			again++
		}
	}
	require.Equal(t, 1, again)
	require.NoError(t, verdict(t, dsn, Keys{}, rep).Err())
}

// TestACheckerNeedsItsTables: a database that does not have them is an error, no verdict.
func TestACheckerNeedsItsTables(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	for _, sc := range []checked{Lists{}, Registers{}, Bank{}, Keys{}} {
		pgtest.Exec(t, conn, "CREATE SCHEMA "+sc.searchPath()+"; "+history.LedgerDDL(sc.Ledger()))
		_, err := history.Check(bounded(t), conn, nil, Options(sc, 0))
		require.True(t, pg.IsCode(err, pg.CodeUndefinedTable), "%s: %v", sc.searchPath(), err)
	}
}
