package e2e_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// startStates are where a run is when the program is killed and started again.
var startStates = []string{"copying", "following", "arming", "switched", "finished"}

// awayKind is a way in which a side is away at that start. take takes the side away and returns what brings
// it back.
type awayKind struct {
	name string
	take func(*testing.T, *sides, string, *netfault.Relay) (back func())
}

var awayKinds = []awayKind{
	{"stopped", func(t *testing.T, s *sides, side string, _ *netfault.Relay) func() {
		s.stop(t, side, pgcluster.Fast)
		return func() { s.begin(t, side) }
	}},
	{"starting", func(t *testing.T, s *sides, side string, _ *netfault.Relay) func() { return s.starting(t, side) }},
	{"suspended", func(t *testing.T, s *sides, side string, _ *netfault.Relay) func() {
		if side == "target" {
			s.suspend(t)
			s.neon.SetWakeDelay(6 * time.Second)
			return func() { s.neon.SetWakeDelay(300 * time.Millisecond) }
		}
		return s.frozen(t, side)
	}},
	{"unreachable", func(_ *testing.T, _ *sides, _ string, relay *netfault.Relay) func() {
		relay.Stall(true)
		return func() { relay.Stall(false) }
	}},
	{"out of connections", func(t *testing.T, s *sides, side string, _ *netfault.Relay) func() {
		c, dsn := s.cluster(side)
		limit := func(n int) {
			conn := pgtest.Conn(t, c.AdminDSN("postgres"))
			pgtest.Exec(t, conn, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", pg.QuoteIdent(dsn.Database()), n))
		}
		limit(0)
		return func() { limit(-1) }
	}},
}

// awayCodes are the blockers by which status names a side that is away.
var awayCodes = map[string]string{"source": "source_away", "target": "target_away"}

// sampledStarts are tried with -short.
var sampledStarts = map[string]bool{
	"following target stopped": true, "following target unreachable": true, "copying target starting": true,
	"switched source suspended": true, "switched target stopped": true, "finished source stopped": true,
}

// postmaster returns the process number of a side's server.
func (s *sides) postmaster(t *testing.T, side string) int {
	t.Helper()
	c, _ := s.cluster(side)
	text, err := os.ReadFile(filepath.Join(c.Dir(), "data", "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	return pid
}

// frozen stops the process that takes logins, as a machine that is suspended: nobody answers.
func (s *sides) frozen(t *testing.T, side string) (back func()) {
	t.Helper()
	pid := s.postmaster(t, side)
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	thaw := sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	t.Cleanup(thaw)
	return thaw
}

// starting has the server be there and let nobody in, as one that recovers for a long time.
func (s *sides) starting(t *testing.T, side string) (back func()) {
	t.Helper()
	c, dsn := s.cluster(side)
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, "ALTER SYSTEM SET hot_standby = off")
	_ = conn.Close(context.Background())
	s.stop(t, side, pgcluster.Fast)
	signal, err := c.WriteFile(filepath.Join("data", "standby.signal"), nil, 0o600)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, c.StartUnready(ctx))
	return func() {
		s.stop(t, side, pgcluster.Fast)
		require.NoError(t, os.Remove(signal))
		s.begin(t, side)
	}
}

// knock is one login of an application and a query, and what became of it.
type knock struct {
	done chan struct{}
	err  error
	took time.Duration
}

// holdSeen is how long a client has no answer before it counts as held.
const holdSeen = 2 * time.Second

// knock asks at the proxy as soon as someone listens there.
func (p *process) knock() *knock {
	k := &knock{done: make(chan struct{})}
	dsn := p.proxied()
	go func() {
		defer close(k.done)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		begun := time.Now()
		for {
			var conn *pgx.Conn
			if conn, k.err = pg.Connect(ctx, dsn, pg.WithName("test application")); k.err == nil {
				k.err = conn.QueryRow(ctx, "SELECT 1").Scan(new(int))
				_ = conn.Close(ctx)
			}
			if k.took = time.Since(begun); k.err == nil || !strings.Contains(k.err.Error(), "nothing listens there") {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return k
}

// meanwhile says what the application got within that time, while a side was away.
func (k *knock) meanwhile(within time.Duration) string {
	select {
	case <-k.done:
		if k.err == nil {
			return "served"
		}
		return "refused: " + cmp.Or(pg.Code(k.err), k.err.Error())
	case <-time.After(within):
		return "held"
	}
}

// bring takes a process that has just been made to one of startStates and kills it there.
func (p *process) bring(state string) {
	p.t.Helper()
	switch state {
	case "copying":
		p.start("phase.prepared=kill")
		require.Equal(p.t, -1, p.wait(), "the program is killed")
		p.s.holdWhere(p.t, "target", "crossfade.chunk", "true")
	case "following":
		p.start()
		p.awaitFollowing()
	case "arming":
		p.start("cutover.arming=kill")
		p.awaitFollowing()
		p.ask(control.CutoverOptions{})
		require.Equal(p.t, -1, p.wait(), "the program is killed")
	case "switched", "finished":
		p.start()
		if p.awaitServing().Active == "source" {
			p.awaitFollowing()
			p.cutover()
		}
		if state == "finished" { // with the source kept closed
			eventually(p.t, "it is finished", func() bool {
				_, err := p.client.Finish(context.Background(), control.FinishOptions{Force: true})
				return err == nil
			})
		}
	}
	p.kill()
}

// goesOn waits until a process has gone on with what its state was.
func (p *process) goesOn(state string) {
	p.t.Helper()
	p.await("both sides are there", func(st control.Status) bool {
		return !slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return strings.HasSuffix(b.Code, "_away") })
	})
	switch state {
	case "copying":
		p.await("it copies", func(st control.Status) bool { return st.Phase == "copying" && st.Copy.TablesTotal > 0 })
	case "following", "arming":
		p.awaitFollowing()
	case "switched":
		p.await("the target is active", func(st control.Status) bool { return st.Phase == "on_target" && st.Active == "target" })
	case "finished":
		p.await("it is finished", func(st control.Status) bool { return st.Phase == "finished" && st.Active == "target" })
	}
}

// TestStartedAgainWithASideAway starts, kills and starts the program again in each state of a run with either side
// away: what does not need that side is served, the rest waits for it, and the run goes on when it comes.
func TestStartedAgainWithASideAway(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var rows []string
	t.Cleanup(func() {
		slices.Sort(rows)
		t.Logf("\n| state | side that is away | how | applications meanwhile | when it is back |\n|---|---|---|---|---|\n%s", strings.Join(rows, "\n"))
	})
	for _, state := range startStates {
		for _, side := range []string{"source", "target"} {
			t.Run(state+" "+side, func(t *testing.T) {
				t.Parallel()
				kinds := slices.DeleteFunc(slices.Clone(awayKinds), func(k awayKind) bool {
					return testing.Short() && !sampledStarts[state+" "+side+" "+k.name]
				})
				if len(kinds) == 0 {
					t.Skip("with -short only some are tried")
				}
				s := ownSides(t)
				loadShop(t, s)
				of := &s.source
				if side == "target" {
					of = &s.target
				}
				relay := throughRelay(t, of)
				p := newProcess(t, s)
				onTarget := state == "switched" || state == "finished"
				for i, kind := range kinds {
					if i == 0 || state == "arming" {
						p.bring(state)
					}
					back := kind.take(t, s, side, relay)
					p.start()
					p.awaitListening()
					p.kill()
					p.start()
					k := p.knock()
					p.awaitListening()
					wakes := kind.name == "suspended" && side == "target" // when it is asked, perhaps already
					activeIsAway := (side == "target") == onTarget
					within := patience
					if activeIsAway {
						within = holdSeen
					}
					got := k.meanwhile(within)
					switch {
					case !activeIsAway:
						require.Equal(t, "served", got, "%s: the active side is there", kind.name)
					case wakes:
						require.Contains(t, []string{"held", "served"}, got, "%s: the active side wakes up", kind.name)
					default:
						require.Equal(t, "held", got, "%s: the active side is away", kind.name)
					}
					if !wakes && (state != "finished" || side == "target") {
						st := p.await("it says what is away", func(st control.Status) bool {
							return slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return b.Code == awayCodes[side] })
						})
						told := slices.DeleteFunc(st.Blockers, func(b control.Blocker) bool {
							return onTarget && (b.Code == "target_not_whole" || b.Code == "verify_running")
						}) // of the finish
						require.Len(t, told, 1, "%s: it is told once, and no wait for what cannot be asked: %v", kind.name, st.Blockers)
					}
					begun := time.Now()
					back()
					p.goesOn(state)
					<-k.done
					require.NoError(t, k.err, "%s: the application is served when the side is back", kind.name)
					mu.Lock()
					rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | goes on by itself, %.1f s later |", state, side, kind.name, got, time.Since(begun).Seconds()))
					mu.Unlock()
					if i < len(kinds)-1 {
						p.kill()
					}
				}
				require.Equal(t, 0, p.stop())
			})
		}
	}
}

// awaitListening waits until the program answers at its control socket.
func (p *process) awaitListening() {
	p.t.Helper()
	eventually(p.t, "the program answers", func() bool {
		select {
		case <-p.done:
			require.Fail(p.t, "the program ended", p.log.tail())
		default:
		}
		_, err := p.client.Status(context.Background())
		return err == nil
	})
}
