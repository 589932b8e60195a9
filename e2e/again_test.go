package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// say runs a command of the program against the sides and returns its exit code
// and the one line that it says.
func (s *sides) say(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	if env == nil {
		env = s.env()
	}
	if args[0] == "run" {
		dir, err := os.MkdirTemp("", "cf")
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		args = append(args, "--listen=127.0.0.1:0", "--log-level=error", "--control="+filepath.Join(dir, "c.sock"))
	}
	out, code := program(t, env, args...)
	for _, secret := range []string{s.source.Password(), s.target.Password(), "wr0ng"} {
		require.NotContains(t, out, secret)
	}
	return strings.TrimSpace(out), code
}

// oneLine fails unless out is one line with these words in it.
func oneLine(t *testing.T, out string, words ...string) {
	t.Helper()
	require.NotContains(t, out, "\n", "one line")
	for _, w := range words {
		require.Contains(t, out, w)
	}
}

func TestRunIsRefusedWithOtherSidesThanItBeganWith(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	other := newSides(t)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()

	out, code := s.say(t, nil, "run")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "another Crossfade process")
	p.await("the first goes on", func(st control.Status) bool { return st.Ready && st.Replication.LagMS >= 0 })
	p.kill()

	src, dst := uri(s.source), uri(s.target)
	for name, x := range map[string]struct {
		source, target string
		words          []string
	}{
		"wrong password of the source": {uri(s.source.WithUser(s.source.User(), "wr0ng")), dst, []string{"source: ", "password"}},
		"exchanged":                    {dst, src, []string{"exchanged", "--source", "--target"}},
		"another target":               {src, uri(other.target), []string{"holds a run", "clean"}},
		"another source":               {uri(other.source), dst, []string{"holds a run", "clean"}},
		"the source twice":             {src, src, []string{"lead to one database"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := s.say(t, []string{"CROSSFADE_SOURCE=" + x.source, "CROSSFADE_TARGET=" + x.target}, "run")
			require.Contains(t, []int{1, 2}, code, out)
			oneLine(t, out, x.words...)
			other.requireNothingLeft(t)
		})
	}
	// The sides exchanged, or of another run, are refused by the others as well.
	for _, command := range []string{"recover", "clean"} {
		out, code = s.say(t, []string{"CROSSFADE_SOURCE=" + dst, "CROSSFADE_TARGET=" + src}, command)
		require.Equal(t, 1, code, "%s: %s", command, out)
		oneLine(t, out, "exchanged")
		out, code = s.say(t, []string{"CROSSFADE_SOURCE=" + uri(other.source), "CROSSFADE_TARGET=" + dst}, command)
		if command == "clean" {
			require.Equal(t, 1, code, "%s: %s", command, out)
			oneLine(t, out, "not the database that this run began with")
		}
	}
	p.start()
	p.awaitFollowing()
	p.cutover()
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}

// A password that the target refuses takes no service away: the source is served, and the run goes on when it is right again.
// A first start has no run to go on with.
func TestATargetThatRefusesThePasswordAtARestartIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	out, code := s.say(t, []string{s.env()[0], "CROSSFADE_TARGET=" + uri(s.target.WithUser(s.target.User(), "wr0ng"))}, "run")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "target: ", "password")
	s.requireNothingLeft(t)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	p.kill()
	admin := adminOf(t, s.targetCluster, s.target.Database())
	password := func(is string) {
		pgtest.Exec(t, admin, "ALTER ROLE "+pg.QuoteIdent(s.target.User())+" PASSWORD "+pg.QuoteLiteral(is))
	}
	password("another")
	p.start()
	st := p.await("the target is missed", func(st control.Status) bool {
		return st.Active == "source" && slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return b.Code == "target_away" })
	})
	require.Len(t, st.Blockers, 1, "told once: %+v", st.Blockers)
	require.Contains(t, st.Blockers[0].Detail, "password authentication failed")
	require.Contains(t, st.Blockers[0].Remedy, `\password "`+s.target.User()+`"`)
	w := startShop(t, p, 2)
	awaitEach(t, w, 3)
	password(s.target.Password()) // as \password does
	p.awaitFollowing()
	p.cutover()
	awaitEach(t, w, 3)
	p.finishAfterWrites()
	load := stopClients(w)
	requireLedger(t, s, load, small, 1)
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}

// A start to which neither side answers ends with the status that a supervisor starts it again for.
func TestAStartWithBothSidesAwaySaysThatItMayBeRepeated(t *testing.T) {
	t.Parallel()
	s := ownSides(t)
	s.stop(t, "source", pgcluster.Fast)
	s.stop(t, "target", pgcluster.Fast)
	out, code := s.say(t, nil, "run")
	require.Equal(t, 3, code, out)
	oneLine(t, out, "neither side lets us in", "source: ", "target: ", "a supervisor may")
}

func TestRunIsRefusedWhenTheTargetLostItsJournal(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	require.Equal(t, 0, p.stop())
	conn := pgtest.Conn(t, s.target)
	pgtest.Exec(t, conn, "DROP SCHEMA crossfade CASCADE")
	out, code := s.say(t, nil, "run")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "holds a run", "crossfade clean")
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)
	pgtest.Exec(t, conn, "DROP SCHEMA shop CASCADE")
	s.requireNothingLeft(t)
	// The password of the role that it made is lost with the journal.
	out, code = s.say(t, nil, "run")
	require.Equal(t, 1, code, out)
	refusedFor(t, out, "login_unknown "+s.source.User(), "DROP ROLE")
	s.dropMade(t)
	p.start()
	p.awaitFollowing()
	require.Equal(t, 0, p.stop())
}

// A start that was cut off between the two sides is no obstacle for the next.
func TestAStartThatWasCutShortIsGoneOnWith(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start("schema.restored=kill")
	require.Equal(t, -1, p.wait())
	out, code := s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)
	// What install leaves when it is killed before it comes to the source.
	p.start("phase.dumped=kill")
	require.Equal(t, -1, p.wait())
	pgtest.Exec(t, pgtest.Conn(t, s.target), "UPDATE crossfade.run SET phase = 'started', archive = NULL")
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	_, err := awaitRow(admin, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database() AND active)")
	require.NoError(t, err)
	pgtest.Exec(t, admin, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database();
		DROP PUBLICATION crossfade; DROP SCHEMA crossfade CASCADE`)
	p.start()
	p.awaitFollowing()
	require.Equal(t, 0, p.stop())
}

func TestABadCertificateLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	out, code := s.say(t, nil, "run", "--tls-cert=/nowhere/cert.pem", "--tls-key=/nowhere/key.pem")
	require.Equal(t, 2, code, out)
	oneLine(t, out, "/nowhere/cert.pem")
	s.requireNothingLeft(t)
}

// After the switch the source is not needed: a start without it serves the target. What needs it
// waits for it.
func TestRunServesTheTargetWithoutTheSource(t *testing.T) {
	t.Parallel()
	s := ownSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	w := startShop(t, p, 4)
	p.awaitFollowing()
	p.cutover()
	awaitEach(t, w, 3)
	s.stop(t, "source", pgcluster.Fast)
	p.kill()
	p.start()
	st := p.awaitServing()
	require.Equal(t, "target", st.Active)
	awaitEach(t, w, 5)
	_, err := p.client.Finish(t.Context(), control.FinishOptions{})
	require.ErrorContains(t, err, "make it reachable and run this again; meanwhile the active side is served", "the source's fence and slot cannot be dropped")
	require.NotContains(t, err.Error(), "\n")
	awaitEach(t, w, 3)
	s.begin(t, "source")
	p.finishAfterWrites()
	awaitEach(t, w, 3)
	again := p.finish()
	require.Empty(t, again.Dropped, "what is gone is not dropped twice")
	// As long as the applications log in here, a start after finish serves them as well, and
	// until clean there is nothing more to be done.
	p.kill()
	p.start()
	st = p.awaitServing()
	require.Equal(t, "finished target", st.Phase+" "+st.Active)
	awaitEach(t, w, 3)
	require.Empty(t, p.finish().Dropped)
	load := stopClients(w)
	requirePlain(t, load, "nothing listens there") // while the program was dead
	requireLedger(t, s, load, small, 1)
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
	out, code := s.say(t, nil, "run")
	require.Equal(t, 1, code, out)
	refusedFor(t, out, "already has", "finished")
	s.requireNothingLeft(t)
}

// A password that the source refuses would lock every client out.
func TestAWrongPasswordIsRefusedAfterTheSwitchToo(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	p.cutover()
	require.Equal(t, 0, p.stop())
	out, code := s.say(t, []string{"CROSSFADE_SOURCE=" + uri(s.source.WithUser(s.source.User(), "wr0ng")), s.env()[1]}, "run")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "source: ", "password")
}

// TestStopped ends the program politely at several moments; the next start goes
// on.
func TestStopped(t *testing.T) {
	t.Parallel()
	for _, at := range []struct{ name, side, table, when string }{
		{"copying", "target", "crossfade.chunk", "true"},
		{"arming", "source", "crossfade.run", "NEW.step = 'arming'"},
		{"fenced", "source", "crossfade.run", "NEW.step = 'draining'"},
		{"deciding", "target", "crossfade.decision", "NEW.decision = 'commit'"},
	} {
		t.Run(at.name, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "copying", "fenced")
			s := newSides(t)
			loadShop(t, s)
			p := newProcess(t, s)
			var h *hold
			if at.name == "copying" {
				p.start("phase.prepared=kill")
				require.Equal(t, -1, p.wait(), "the program is killed")
				h = s.holdWhere(t, at.side, at.table, at.when)
				p.start()
				p.awaitServing()
			} else {
				p.start()
				p.awaitFollowing()
				h = s.holdWhere(t, at.side, at.table, at.when)
			}
			w := startShop(t, p, 4)
			awaitEach(t, w, 2)
			if at.name != "copying" {
				p.ask(control.CutoverOptions{})
			}
			h.met()
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			if at.name != "copying" {
				h.release()
			}
			require.Equal(t, 0, p.wait(), "a polite end: %s", p.log.tail())
			h.release()
			p.start()
			if p.awaitServing().Active == "source" {
				p.awaitFollowing()
				awaitEach(t, w, 2)
				p.cutover()
			}
			awaitEach(t, w, 3)
			p.finishAfterWrites()
			load := stopClients(w)
			requireLedger(t, s, load, small, 1)
			require.Zero(t, countStale(load))
			require.Equal(t, 0, p.stop())
			s.requireNothingLeft(t)
		})
	}
}

// A second SIGTERM ends the program at once, whatever it waits for.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	h := s.holdWhere(t, "target", "crossfade.decision", "NEW.decision = 'commit'")
	p.ask(control.CutoverOptions{})
	h.met()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	eventually(t, "the second signal ends it", func() bool {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
	require.NotEqual(t, 0, p.wait())
	h.release()
	p.start()
	if p.awaitServing().Active == "source" {
		p.awaitFollowing()
		p.cutover()
	}
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
