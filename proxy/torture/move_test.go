package torture

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy"
	"crossfade/proxy/wire"
)

// play runs a script; before(k) is called before step k, and after the last step. It returns all
// that was sent to the client.
func play(l *lane, s script, before func(k int)) []wire.Frame {
	l.t.Helper()
	from := l.count()
	seen := from
	for k, st := range s.steps {
		before(k)
		seen = l.step(st, seen)
	}
	before(len(s.steps))
	return l.normal(l.mark(from, "end of "+s.name))
}

// step takes one step. What it waits for may have come ahead of it, but not ahead of what
// an earlier step has waited for: seen counts up to that.
func (l *lane) step(st step, seen int) int {
	l.t.Helper()
	l.send(st.send)
	if st.wait == 0 {
		return seen
	}
	frames := l.until(seen, st.wait)
	return seen + bytes.IndexByte([]byte(types(frames)), st.wait) + 1
}

// TestScriptsAcrossMoves runs every script with a move that begins ahead of each of its steps in
// turn. The session goes on while it drains, and is sent what a client without a proxy is sent.
func TestScriptsAcrossMoves(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"whole": 0, "by single bytes": 1, "by seven bytes": 7} {
		if testing.Short() && size > 1 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t, tortureSchema, func(c *proxy.Config) {
				if size > 0 {
					c.Source.Dial.Address = dribble(t, c.Source.Dial.Address, size)
					c.Target.Dial.Address = dribble(t, c.Target.Dial.Address, size)
				}
			})
			want, l := dial(t, address(g.source), g.source), g.lane()
			for i, s := range scripts() {
				if s.big && size == 1 {
					continue // a capture of half a megabyte by single bytes takes longer than its bound
				}
				if testing.Short() && size == 1 && i%3 != 0 {
					continue
				}
				l.chop = size
				if s.big && size > 0 {
					l.chop = 1000 * size
				}
				expect := play(want, s, func(int) {})
				for cut := range len(s.steps) + 1 {
					var moved <-chan error
					got := play(l, s, func(k int) {
						if k == cut {
							moved = g.inBackground(cut == 0)
						}
					})
					require.NoError(t, <-moved, "%s, moved ahead of step %d", s.name, cut)
					same(t, expect, got, fmt.Sprintf("%s, moved ahead of step %d", s.name, cut))
				}
			}
		})
	}
}

// TestScriptsHeld parks the session ahead of every step at which it can be parked,
// sends all the rest of the script into the pause, and then moves it.
func TestScriptsHeld(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	want, l := dial(t, address(g.source), g.source), g.lane()
	held := 0
	for _, s := range scripts() {
		boundary := make([]bool, len(s.steps)+1) // ahead of that step
		expect := play(want, s, func(k int) { boundary[k] = want.settled() })
		for cut := range s.steps {
			if !boundary[cut] {
				continue
			}
			held++
			at := fmt.Sprintf("%s, parked ahead of step %d", s.name, cut)
			from := l.count()
			seen := from
			var rest []byte
			for k, st := range s.steps {
				if k == cut {
					l.settled() // else this end may still be reading what came before
					require.NoError(t, g.pause(within(t), cut == 0), at)
				}
				if k >= cut {
					rest = append(rest, st.send...)
					continue
				}
				seen = l.step(st, seen)
			}
			parked := l.count()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				l.send(append(rest, query("SELECT 'end of "+s.name+"'")...))
			}()
			_, err := g.Restage(within(t), g.epoch)
			require.NoError(t, err, at)
			require.Equal(t, parked, l.count(), "%s: something came in the pause", at)
			report, err := g.Switch(within(t), g.epoch, g.other())
			require.NoError(t, err, at)
			require.Zero(t, report.ClientErrors, "%v", report.Failed)
			got := l.normal(l.marked(from, "end of "+s.name))
			<-sent
			same(t, expect, got, at)
		}
	}
	require.Greater(t, held, len(scripts()), "scripts have boundaries within them")
}
