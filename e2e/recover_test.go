package e2e_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// away is the connection string of a database whose server is down.
func away(t *testing.T, d pg.DSN) string {
	t.Helper()
	port, err := pgcluster.FreePort()
	require.NoError(t, err)
	return uriAt(d, port)
}

// sentence fails unless recover said one sentence, and perhaps one error.
func sentence(t *testing.T, out, want string) {
	t.Helper()
	lines := strings.Split(out, "\n")
	require.LessOrEqual(t, len(lines), 2, out)
	require.Contains(t, lines[0], want)
	require.False(t, strings.HasPrefix(lines[0], "crossfade: "), out)
	if len(lines) == 2 {
		require.True(t, strings.HasPrefix(lines[1], "crossfade: "), out)
	}
}

// TestRecover kills the program in each state of the cutover and recovers with
// sides that do not answer, and then with both.
func TestRecover(t *testing.T) {
	t.Parallel()
	for _, point := range killedWithin {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "cutover.deciding=kill", "cutover.draining=kill")
			s := newSides(t)
			loadShop(t, s)
			p := newProcess(t, s)
			p.start(point)
			p.awaitServing()
			w := startShop(t, p, 4)
			p.awaitFollowing()
			awaitEach(t, w, 3)
			if point == "cutover.deciding=kill" { // it waits for a while, in case the other one has just ended
				out, code := s.say(t, nil, "recover")
				require.Equal(t, 1, code, "a daemon leads: %s", out)
				oneLine(t, out, "another Crossfade process", "status")
			}
			p.ask(control.CutoverOptions{})
			require.Equal(t, -1, p.wait(), "the program is killed")

			src, dst := "CROSSFADE_SOURCE="+uri(s.source), "CROSSFADE_TARGET="+uri(s.target)
			noSrc, noDst := "CROSSFADE_SOURCE="+away(t, s.source), "CROSSFADE_TARGET="+away(t, s.target)
			committed := pgtest.Value(t, pgtest.Conn(t, s.target), "SELECT count(*) FROM crossfade.decision WHERE decision = 'commit'") != "0"
			step := pgtest.Value(t, pgtest.Conn(t, s.source), "SELECT step FROM crossfade.run")

			out, code := s.say(t, []string{noSrc, noDst}, "recover")
			require.Equal(t, 3, code, out)
			sentence(t, out, "cannot be said")

			out, code = s.say(t, []string{noSrc, dst}, "recover")
			if committed {
				require.Equal(t, 0, code, out)
				sentence(t, out, "The target is active")
			} else {
				require.Equal(t, 3, code, out)
				sentence(t, out, "does not answer")
			}

			out, code = s.say(t, []string{src, noDst}, "recover")
			switch step {
			case "deciding":
				require.Equal(t, 3, code, out)
				sentence(t, out, "cannot be said")
				require.Equal(t, 1, strings.Count(out, "make it reachable and run this again"), out)
			case "decided":
				require.Equal(t, 0, code, out)
				sentence(t, out, "The target is active")
			default:
				require.Equal(t, 0, code, out)
				sentence(t, out, "The source is active")
			}

			out, code = s.say(t, nil, "recover")
			require.Equal(t, 0, code, out)
			active := "The source is active"
			if committed {
				active = "The target is active"
			}
			sentence(t, out, active)
			again, code := s.say(t, nil, "recover")
			require.Equal(t, 0, code, again)
			sentence(t, again, active)

			_, err := pgtest.Conn(t, s.source).Exec(context.Background(), "UPDATE shop.accounts SET owner = owner WHERE id = 1")
			if committed {
				require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err), "the source is fenced")
			} else {
				require.NoError(t, err, "the source can be written")
			}
			p.start()
			if p.awaitServing().Active == "source" {
				require.False(t, committed)
				p.awaitFollowing()
				p.cutoverPatiently()
			}
			awaitEach(t, w, 3)
			p.finishAfterWrites()
			load := stopClients(w)
			requireLedger(t, s, load, small, 1)
			require.Zero(t, countStale(load))
			require.Equal(t, 0, p.stop())
			out, code = s.say(t, nil, "recover")
			require.Equal(t, 0, code, out)
			sentence(t, out, "The target is active")
			s.requireNothingLeft(t)
			out, code = s.say(t, nil, "recover")
			require.Equal(t, 0, code, out)
			sentence(t, out, "No run of Crossfade")
		})
	}
}

// Recover does not touch a target that belongs to another run.
func TestRecoverRefusesOtherDatabases(t *testing.T) {
	t.Parallel()
	s, other := newSides(t), newSides(t)
	for _, x := range []*sides{s, other} {
		loadShop(t, x)
	}
	p, q := newProcess(t, s), newProcess(t, other)
	p.start("cutover.fenced=kill")
	q.start()
	p.awaitFollowing()
	q.awaitFollowing()
	p.ask(control.CutoverOptions{})
	require.Equal(t, -1, p.wait(), "the program is killed")
	for _, command := range []string{"recover", "clean"} {
		out, code := s.say(t, []string{"CROSSFADE_SOURCE=" + uri(s.source), "CROSSFADE_TARGET=" + uri(other.target)}, command)
		require.Equal(t, 1, code, out)
		oneLine(t, out, "different runs", "two databases of one run")
	}
	require.Equal(t, "0", pgtest.Value(t, pgtest.Conn(t, other.target), "SELECT count(*) FROM crossfade.decision"))
	q.cutover()
	require.Equal(t, 0, q.stop())
}

// A finish that was cut short has taken the journal from the source: the target
// is served, and finish ends what is left.
func TestAFinishThatWasCutShortIsGoneOnWith(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	p.cutover()
	p.awaitWhole()
	p.kill()
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	_, err := awaitRow(admin, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database() AND active)")
	require.NoError(t, err)
	pgtest.Exec(t, admin, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database();
		DROP PUBLICATION crossfade; DROP SCHEMA crossfade CASCADE`)
	out, code := s.say(t, nil, "recover")
	require.Equal(t, 0, code, out)
	sentence(t, out, "The target is active")
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "--force")
	p.start()
	require.Equal(t, "target", p.awaitServing().Active)
	w := startShop(t, p, 2)
	awaitEach(t, w, 3)
	p.finish()
	awaitEach(t, w, 2)
	require.Zero(t, stopClients(w).Errors())
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
