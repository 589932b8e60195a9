package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// application opens one session of an application through the proxy. Its lock
// waits are bounded: a lock of ours that it waits for longer is an error.
func application(t *testing.T, p *process, lockTimeout string) *pgx.Conn {
	t.Helper()
	cfg := p.proxied().Config()
	cfg.RuntimeParams = map[string]string{"application_name": "app", "lock_timeout": lockTimeout}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// awaitFence waits until every table has its fence trigger, so that a cutover
// need not wait for it.
func awaitFence(t *testing.T, s *sides) {
	t.Helper()
	_, err := awaitRow(pgtest.Conn(t, s.source), `SELECT 1 WHERE NOT EXISTS (
		SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema|crossfade)'
		AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'zz_crossfade_fence'))`)
	require.NoError(t, err)
}

func TestATransactionThatStaysOpenMakesTheAttemptAbort(t *testing.T) {
	t.Parallel()
	const drain = time.Second
	s := newSides(t)
	library.fill(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	open := application(t, p, "0")
	w := library.clients(t, p.proxied(), 6, 30)
	p.awaitFollowing()
	awaitEach(t, w, 5)
	awaitFence(t, s)
	pgtest.Exec(t, open, "BEGIN; UPDATE library.language SET name = name WHERE language_id = 1")

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	asked := time.Now()
	r, err := p.request(ctx, control.CutoverOptions{DrainTimeoutMS: drain.Milliseconds(), Attempts: 1})
	require.NoError(t, err)
	require.Equal(t, control.OutcomeAborted, r.Outcome)
	require.Contains(t, r.Reason, "in transaction")
	require.Contains(t, r.Reason, s.source.User(), "the session in the way is named")
	require.Zero(t, r.ClientErrors)
	require.Len(t, r.Attempts, 1)
	require.GreaterOrEqual(t, r.Attempts[0].PauseMS, float64(drain.Milliseconds()))
	require.NotZero(t, r.Attempts[0].Held, "clients waited, though nothing came of it")
	require.Equal(t, r.Held, r.Attempts[0].Held)
	require.Greater(t, r.Held.MaxMS, float64(drain.Milliseconds())/2)
	ended := time.Now()
	awaitEach(t, w, 10)
	st := p.await("it tells", func(control.Status) bool { return true })
	require.Equal(t, "source", st.Active)
	require.Zero(t, st.Proxy.Parked)

	pgtest.Exec(t, open, "COMMIT") // the transaction that was in the way is unharmed
	p.awaitFollowing()
	p.cutover()
	awaitEach(t, w, 5)
	load := stopClients(w)
	require.Empty(t, load.ErrorTexts)
	require.Zero(t, load.Errors())
	// A client was held for no longer than the drain timeout; the rest is for a machine that
	// stands still meanwhile.
	for _, stall := range load.StallsAround(asked.Add(ended.Sub(asked)/2), ended.Sub(asked)/2) {
		require.Less(t, stall.Took, drain+10*time.Second, "client %d", stall.Client)
	}
	requireLedger(t, s, load, library.scenario, 1)
	require.Equal(t, 0, p.stop())
}
