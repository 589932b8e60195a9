package e2e_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// throughRelay puts a relay in front of a database and changes the connection string to
// lead through it.
func throughRelay(t *testing.T, d *pg.DSN) *netfault.Relay {
	t.Helper()
	r, err := netfault.Listen(netfault.Config{Target: d.Address()})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return r.Run(ctx) })
	t.Cleanup(func() {
		stop()
		require.NoError(t, g.Wait())
	})
	moved, err := pg.ParseDSN(uriAt(*d, r.Addr().Port))
	require.NoError(t, err)
	*d = moved
	return r
}

// TestACommitWithoutAnAnswer cuts the connection on which the fence or the
// decision commits, while the server commits it.
func TestACommitWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, at := range []struct{ name, side, table, when, waits string }{
		{"fence", "source", "crossfade.run", "NEW.step = 'fenced'", "UPDATE crossfade.run SET coordinator%"},
		{"decision", "target", "crossfade.decision", "NEW.decision = 'commit'", "INSERT INTO crossfade.decision%abort%"},
	} {
		t.Run(at.name, func(t *testing.T) {
			t.Parallel()
			s := newSides(t)
			loadShop(t, s)
			cluster, admin := s.cluster(at.side)
			side := &s.source
			if at.side == "target" {
				side = &s.target
			}
			relay := throughRelay(t, side)
			p := newProcess(t, s)
			p.start()
			p.awaitServing()
			w := startShop(t, p, 4)
			p.awaitFollowing()
			awaitEach(t, w, 3)
			h := s.holdCommitWhere(t, at.side, at.table, at.when)
			a := p.ask(control.CutoverOptions{})
			h.met()
			relay.Cut(netfault.ResetClient)
			// The program asks the database what became of it, and is made to wait.
			_, err := awaitRow(adminOf(t, cluster, admin.Database()), `SELECT 1 FROM pg_stat_activity
				WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE '`+at.waits+`'`)
			require.NoError(t, err)
			h.release()
			<-a.done
			require.NoError(t, a.err)
			t.Logf("%s: %s %s", at.name, a.report.Outcome, a.report.Reason)
			if at.name == "decision" {
				require.Equal(t, control.OutcomeSwitched, a.report.Outcome, "the decision stands")
			} else {
				require.Equal(t, control.OutcomeAborted, a.report.Outcome)
				awaitEach(t, w, 3)
				// The source still sends to the connection that was cut, until
				// wal_sender_timeout. Nobody is paused for a marker that cannot come.
				out, code := p.ctl("cutover")
				require.Equal(t, 1, code, out)
				oneLine(t, out, "cut off from the source")
				pgtest.Exec(t, adminOf(t, cluster, admin.Database()), `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
					WHERE database = current_database() AND active`)
				p.awaitFollowing()
				p.cutover()
			}
			awaitEach(t, w, 5)
			p.finishAfterWrites()
			load := stopClients(w)
			requirePlain(t, load)
			requireLedger(t, s, load, small, 1)
			require.Equal(t, 0, p.stop())
			s.requireNothingLeft(t)
		})
	}
}

// TestASideFallsSilent lets no byte pass to or from one side for a while: within
// the pause, and while it follows. Nobody is told of an end of the connection.
func TestASideFallsSilent(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "target")
			s := newSides(t)
			loadShop(t, s)
			of := &s.source
			if side == "target" {
				of = &s.target
			}
			relay := throughRelay(t, of)
			p := newProcess(t, s)
			p.start()
			p.awaitServing()
			w := startShop(t, p, 4)
			p.awaitFollowing()
			awaitEach(t, w, 3)
			h := s.holdWhere(t, "source", "crossfade.run", "NEW.step = 'draining'")
			a := p.ask(control.CutoverOptions{Attempts: 1})
			h.met()
			relay.Stall(true)
			h.release()
			if side == "target" { // the cutover gives up by itself
				<-a.done
				require.NoError(t, a.err)
				require.Equal(t, control.OutcomeAborted, a.report.Outcome, a.report.Reason)
				awaitEach(t, w, 2)
			} else { // and cannot say so while its journal is silent
				p.await("it undoes the attempt", func(st control.Status) bool { return st.Phase == "fenced" || st.Phase == "draining" })
			}
			relay.Stall(false)
			<-a.done
			awaitEach(t, w, 3)
			if p.awaitServing().Active == "source" {
				p.awaitFollowing()
				p.cutoverPatiently()
			}
			awaitEach(t, w, 3)
			p.finishAfterWrites()
			load := stopClients(w)
			requirePlain(t, load)
			requireLedger(t, s, load, small, 1)
			require.Equal(t, 0, p.stop())
			s.requireNothingLeft(t)
		})
	}
}
