package e2e_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/workload"
)

// restarts are the ways in which a database goes away for a moment.
var restarts = []struct {
	name, side string
	mode       pgcluster.Mode
}{
	{"source fast", "source", pgcluster.Fast},
	{"source immediate", "source", pgcluster.Immediate},
	{"target fast", "target", pgcluster.Fast},
	{"target immediate", "target", pgcluster.Immediate},
}

// plain are the words of a server that restarts, which no proxy can keep from
// its clients.
var plain = regexp.MustCompile(`terminating connection|closed the connection|shutting down|starting up|not yet accepting connections|in recovery mode|connection reset|broken pipe|conn closed|EOF|` +
	`crash of another server process|57P0[123]|connection to the server was lost|08006`)

// requirePlain fails on an error that a restart of PostgreSQL itself would not
// have given the clients. besides are words that the test has earned otherwise.
func requirePlain(t *testing.T, load workload.Report, besides ...string) {
	t.Helper()
	for _, e := range load.ErrorTexts {
		if !slices.ContainsFunc(besides, func(s string) bool { return strings.Contains(e, s) }) {
			require.Regexp(t, plain, e)
		}
	}
	require.Zero(t, countStale(load), "a client missed what it had written: %v", load.ErrorTexts)
}

// asked is a cutover under way.
type asked struct {
	report control.CutoverReport
	err    error
	done   chan struct{}
}

func (p *process) ask(opt control.CutoverOptions) *asked {
	a := &asked{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		a.report, a.err = p.request(ctx, opt)
	}()
	return a
}

// TestADatabaseRestarts restarts one side while copying, while following and
// right after the switch. The run goes on by itself each time.
func TestADatabaseRestarts(t *testing.T) {
	t.Parallel()
	for _, r := range restarts {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "source immediate", "target immediate")
			s := ownSides(t)
			loadShop(t, s)
			p := newProcess(t, s)
			p.start("phase.prepared=kill")
			require.Equal(t, -1, p.wait(), "the program is killed")
			chunk := s.holdWhere(t, "target", "crossfade.chunk", "true")
			p.start()
			p.awaitServing()
			w := startShop(t, p, 6)
			chunk.met()
			s.restart(t, r.side, r.mode)
			chunk.release()
			p.awaitFollowing()
			awaitEach(t, w, 5)
			s.restart(t, r.side, r.mode)
			awaitEach(t, w, 5)
			p.awaitFollowing()
			p.cutoverPatiently()
			s.restart(t, r.side, r.mode)
			awaitEach(t, w, 10)
			p.finishAfterWrites()
			awaitEach(t, w, 2)
			load := stopClients(w)
			requirePlain(t, load)
			requireLedger(t, s, load, small, 1)
			require.Equal(t, 0, p.stop())
			s.requireNothingLeft(t)
		})
	}
}

// cutoverPatiently asks until a cutover switches: one that was asked for a moment
// after a restart may be refused or abort.
func (p *process) cutoverPatiently() control.CutoverReport {
	p.t.Helper()
	var r control.CutoverReport
	eventually(p.t, "a cutover switches", func() bool {
		a := p.ask(control.CutoverOptions{})
		<-a.done
		r = a.report
		return a.err == nil && r.Outcome == control.OutcomeSwitched
	})
	return r
}

// TestADatabaseRestartsWithinThePause restarts one side while the cutover stands
// in one of its steps.
func TestADatabaseRestartsWithinThePause(t *testing.T) {
	t.Parallel()
	moments := []struct{ name, side, table, when string }{
		{"pausing", "source", "crossfade.run", "NEW.step = 'pausing'"},
		{"fence", "source", "crossfade.run", "NEW.step = 'fenced'"},
		{"draining", "source", "crossfade.run", "NEW.step = 'draining'"},
		{"deciding", "source", "crossfade.run", "NEW.step = 'deciding'"},
		{"decision", "target", "crossfade.decision", "NEW.decision = 'commit'"},
		{"decided", "source", "crossfade.run", "NEW.step = 'decided'"},
	}
	for _, at := range moments {
		for _, r := range restarts {
			fast := r.mode == pgcluster.Fast
			if fast && at.name != "deciding" && at.name != "draining" {
				continue // that a server waits for its walsenders matters while the stream is held
			}
			t.Run(at.name+" "+r.name, func(t *testing.T) {
				t.Parallel()
				sampleOnly(t, "decision target immediate", "draining source immediate")
				s := ownSides(t)
				loadShop(t, s)
				p := newProcess(t, s)
				p.start()
				p.awaitServing()
				w := startShop(t, p, 6)
				p.awaitFollowing()
				awaitEach(t, w, 3)
				h := s.holdWhere(t, at.side, at.table, at.when)
				a := p.ask(control.CutoverOptions{})
				h.met()
				s.restart(t, r.side, r.mode)
				h.release()
				awaitEach(t, w, 3)
				<-a.done
				t.Logf("%v %v: %s %s", at.name, r.name, a.report.Outcome, a.report.Reason)
				st := p.awaitServing()
				if st.Active == "source" {
					p.awaitFollowing()
					p.cutoverPatiently()
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
}

// TestTheSourceGoesDownWhileTheTargetDecides: nothing of it is needed any more, so that no
// client notices.
func TestTheSourceGoesDownWhileTheTargetDecides(t *testing.T) {
	t.Parallel()
	s := ownSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	w := startShop(t, p, 6)
	p.awaitFollowing()
	awaitEach(t, w, 3)
	h := s.holdWhere(t, "target", "crossfade.decision", "NEW.decision = 'commit'")
	a := p.ask(control.CutoverOptions{})
	h.met()
	s.stop(t, "source", pgcluster.Immediate)
	h.release()
	awaitEach(t, w, 5)
	<-a.done
	require.NoError(t, a.err)
	require.Equal(t, control.OutcomeSwitched, a.report.Outcome, a.report.Reason)
	require.Zero(t, a.report.ClientErrors, "%v", a.report.Ended)
	s.begin(t, "source")
	p.finishAfterWrites()
	load := stopClients(w)
	require.Empty(t, load.ErrorTexts)
	requireLedger(t, s, load, small, 1)
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
