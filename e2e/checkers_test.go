package e2e_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/internal/lab/workload"
)

const (
	// checkerClients is how many clients each scenario of the checkers has. All together they are
	// as many as a cluster that five tests share has room for.
	checkerClients = 4
	// checkerRate is how many transactions a client of the checkers begins in a second.
	checkerRate = 15
)

// checkedScenarios are the scenarios that run at once, each in a schema of its own, and how each is
// loaded: among them the shop, which has the sequences.
var checkedScenarios = []struct {
	name     string
	scenario workload.Scenario
	load     func(context.Context, *pgx.Conn) error
}{
	{"shop", small, small.Setup},
	{"lists", workload.Lists{}, workload.Lists{}.Load},
	{"registers", workload.Registers{}, workload.Registers{}.Load},
	{"bank", workload.Bank{}, workload.Bank{}.Load},
	{"keys", workload.Keys{}, workload.Keys{}.Load},
}

// checkers are clients of all scenarios that history judges, on one database through the proxy.
// Each client goes on after a loss of its connection, so that a test may harm whatever it likes
// while they run. The methods are called by the test's goroutine.
//
//	loadCheckers(t, s)                    // before the run that is to move the tables starts
//	all := startCheckers(t, p)            // once it serves
//	all.await(10)                         // as often as the test likes, with its faults in between
//	all.stop()
//	all.check(s.target, 1)                // the active side, and how often the run changed sides
type checkers struct {
	t       *testing.T
	running []*workload.Workload // by scenario
	did     []workload.Report    // set by stop
}

// loadCheckers makes the schemas of the scenarios in the source, as its owner.
func loadCheckers(t *testing.T, s *sides) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn := pgtest.Conn(t, s.source)
	for _, c := range checkedScenarios {
		require.NoError(t, c.load(ctx, conn), c.name)
	}
}

// startCheckers starts the clients through the proxy of a run that serves. They end with the test.
func startCheckers(t *testing.T, p *process) *checkers {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	c := &checkers{t: t}
	drivers := workload.Drivers()
	for i, x := range checkedScenarios {
		// The drivers are dealt out over all scenarios, as no scenario has a client for each.
		from := i * checkerClients % len(drivers)
		w, err := workload.Start(context.Background(), workload.Config{DSN: p.proxied(), Scenario: x.scenario, Clients: checkerClients, Rate: checkerRate,
			PSQL: b.Path("psql"), FirstClient: 100 * (i + 1), Drivers: slices.Concat(drivers[from:], drivers[:from])})
		require.NoError(t, err, x.name)
		t.Cleanup(func() { stopClients(w) })
		c.running = append(c.running, w)
	}
	return c
}

// await returns when each client has had n more transactions acknowledged.
func (c *checkers) await(n int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var g errgroup.Group // since each counts from when it is asked
	for _, w := range c.running {
		g.Go(func() error { return w.AwaitEach(ctx, n) })
	}
	require.NoError(c.t, g.Wait())
}

// stop lets each client end its transaction, and keeps what all did.
func (c *checkers) stop() {
	c.t.Helper()
	c.did = nil
	for _, w := range c.running {
		c.did = append(c.did, stopClients(w))
	}
}

// requireQuiet fails if a client noticed anything but the serialization failures that transactions on
// lists are given by PostgreSQL itself. Called after stop, by a test without faults.
func (c *checkers) requireQuiet() {
	c.t.Helper()
	for i, r := range c.did {
		name := checkedScenarios[i].name
		for _, o := range r.Operations {
			if o.Outcome != history.OK && (name != "lists" || !strings.Contains(o.Error, pg.CodeSerializationFailure)) {
				require.Fail(c.t, "a client noticed", "%s, client %d: %s %v: %s", name, o.Token.Client, o.Kind, o.Outcome, o.Error)
			}
			require.Empty(c.t, o.Stale, name)
		}
		require.Zero(c.t, r.Lost, name)
	}
}

// check judges what all clients were told, and fails on any fault: against the database of active,
// which serves the applications in the end, after a run that changed sides so often, a fallback
// counting as a change. It returns the verdict on each scenario. Called after stop, when no server is
// left that may still commit what a lost connection asked of it.
func (c *checkers) check(active pg.DSN, changes int) map[string]history.Result {
	c.t.Helper()
	require.Len(c.t, c.did, len(checkedScenarios), "the clients are stopped")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn := pgtest.Conn(c.t, active)
	verdicts := map[string]history.Result{}
	var told []history.Operation
	for i, x := range checkedScenarios {
		told = append(told, c.did[i].Operations...)
		res := c.judge(ctx, conn, c.did[i].Operations, workload.Options(x.scenario, changes))
		var text strings.Builder
		require.NoError(c.t, res.Print(&text))
		c.t.Logf("%s\n%s", x.name, text.String())
		if err := res.Err(); err != nil {
			c.t.Errorf("%s: %v", x.name, err)
		}
		verdicts[x.name] = res
	}
	turns := history.Turns(told, changes)
	require.Zero(c.t, turns.Count, "a side that was closed answered: %v", turns.Examples)
	require.False(c.t, c.t.Failed(), "a checker has found something")
	return verdicts
}

// judge reads all tables of a scenario in one snapshot.
func (c *checkers) judge(ctx context.Context, conn *pgx.Conn, ops []history.Operation, opt history.Options) history.Result {
	c.t.Helper()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	require.NoError(c.t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	res, err := history.Check(ctx, tx, ops, opt)
	require.NoError(c.t, err)
	return res
}

// TestAllCheckersAreContentAcrossACutover: the histories of five applications over a switch show no lost, doubled,
// stale or half transaction, and no client notices.
func TestAllCheckersAreContentAcrossACutover(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadCheckers(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	all := startCheckers(t, p)
	p.awaitFollowing()
	all.await(30)
	r := p.cutover()
	all.await(30)
	all.stop()
	all.requireQuiet()
	require.Zero(t, r.ClientErrors)
	for name, res := range all.check(s.target, 1) {
		require.Len(t, res.Sides, 2, "the clients of %s were answered by both sides", name)
		require.Equal(t, res.Acknowledged, res.Found, name)
		require.Equal(t, 1, res.Switches, name)
		require.Zero(t, res.Unknown, name)
	}
	p.awaitWhole()
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}

// TestAllCheckersAreContentWhenTheProgramIsKilled once the target is open and nobody knows it: all clients lose their
// connections, some with an outcome that stays unknown, connect again and go on.
func TestAllCheckersAreContentWhenTheProgramIsKilled(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadCheckers(t, s)
	p := newProcess(t, s)
	p.start("cutover.after_decision_commit=kill")
	p.awaitServing()
	all := startCheckers(t, p)
	p.awaitFollowing()
	all.await(10)
	asked := p.ask(control.CutoverOptions{})
	require.Equal(t, -1, p.wait(), "the program is killed")
	<-asked.done
	require.Error(t, asked.err)
	p.start()
	require.Equal(t, "target", p.awaitServing().Active)
	all.await(10)
	all.stop()
	for _, r := range all.did {
		require.GreaterOrEqual(t, r.Lost, checkerClients, "each client lost its connection")
		requirePlain(t, r, pg.CodeSerializationFailure, "nothing listens there", "Connection refused")
	}
	for name, res := range all.check(s.target, 1) {
		require.Len(t, res.Sides, 2, "the clients of %s were answered by both sides", name)
	}
	p.finishAfterWrites()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
