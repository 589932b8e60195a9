package torture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"crossfade/proxy"
)

// blocks are what random sequences are made of. Each ends its unit, so that they can be in any
// order; transactions may stay open after one.
var blocks = map[string][]byte{
	"query":        query("SELECT 1"),
	"two queries":  join(query("SELECT 1"), query("SELECT 2; SELECT 3")),
	"failure":      query("SELECT 1/0"),
	"empty":        query(""),
	"unit":         join(unit("SELECT 5"), syncNow),
	"three units":  join(unit("SELECT 1"), syncNow, unit("SELECT 'b'"), syncNow, unit("SELECT 3"), syncNow),
	"one sync":     join(unit("SELECT 1"), unit("SELECT 2"), unit("SELECT 3"), syncNow),
	"bad unit":     join(unit("SELECT 1/0"), unit("SELECT 1"), query("SELECT 2"), syncNow),
	"flushed":      join(unit("SELECT 6"), flush, unit("SELECT 7"), flush, syncNow),
	"parse":        join(parse("", "SELECT $1 || 'x'"), syncNow),
	"run":          join(bind("", "v"), execute(0), syncNow),
	"close":        join(closeUnnamed, syncNow),
	"prepare":      join(parse("n", "SELECT $1::int * 2"), syncNow),
	"run prepared": join(bind("n", "21"), execute(0), syncNow),
	"unprepare":    join(closeNamed, syncNow),
	"begin":        query("BEGIN"),
	"commit":       query("COMMIT"),
	"rollback":     join(unit("ROLLBACK"), syncNow),
	"savepoint":    query("SAVEPOINT s"),
	"to savepoint": query("ROLLBACK TO s"),
	"set":          query("SET app.r = 'kept'"),
	"show":         query("SELECT current_setting('app.r', true)"),
	"zone":         query("SET TimeZone = 'Asia/Tokyo'"),
	"zone back":    join(unit("RESET TimeZone"), syncNow),
	"show zone":    query("SELECT '2026-01-01 00:00+00'::timestamptz"),
	"listen":       query("LISTEN c"),
	"notify":       join(unit("NOTIFY c, 'p'"), syncNow),
	"unlisten":     query("UNLISTEN c"),
	"call":         call(funcPi),
	"stray":        join(copyDone, good, copyFail),
	"copy":         join(query(copySQL), good, good, copyDone),
	"bad copy":     join(query(copySQL), bad, good, copyDone),
	"no copy":      join(query(copySQL), good, copyFail),
	"ext copy":     join(unit(copySQL), good, copyDone, syncNow),
	"sync in copy": join(unit(copySQL), syncNow, good, syncNow, copyDone, syncNow),
	"bad ext copy": join(unit(copySQL), bad, good, copyDone, syncNow),
	"copy out":     query("COPY (SELECT generate_series(1, 300)) TO STDOUT"),
	"rows":         join(unit("SELECT repeat('r', 1000) FROM generate_series(1, 100)"), syncNow),
	"notice":       query(raiseSQL),
	"lock":         query("SELECT pg_advisory_lock(9)"),
	"unlock":       query("SELECT pg_advisory_unlock(9)"),
	"suspended":    join(parse("", "SELECT generate_series(1, 5)"), bind(""), execute(2), syncNow),
	"sql prepare":  query("PREPARE q AS SELECT 'q'"),
	"sql execute":  query("EXECUTE q"),
	"discard":      query("DISCARD ALL"),
}

var sortedBlocks = slices.Sorted(maps.Keys(blocks))

// TestRandomSequences has random sequences, written in random pieces, moved to and fro
// at random moments; a session without a proxy says what the answer is.
func TestRandomSequences(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"whole": 0, "by three bytes": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t, tortureSchema, func(c *proxy.Config) {
				if size > 0 {
					c.Source.Dial.Address = dribble(t, c.Source.Dial.Address, size)
					c.Target.Dial.Address = dribble(t, c.Target.Dial.Address, size)
				}
			})
			want, l := dial(t, address(g.source), g.source), g.lane()
			rounds := 0
			rapid.Check(t, func(rt *rapid.T) { // one round
				rounds++
				sequence(rt, g, want, l, rounds)
			})
		})
	}
}

// sequence is one round. It leaves both sessions as they were.
func sequence(rt *rapid.T, g *rig, want, l *lane, round int) {
	names := rapid.SliceOfN(rapid.SampledFrom(sortedBlocks), 1, 12).Draw(rt, "blocks")
	var all []byte
	for _, n := range names {
		all = append(all, blocks[n]...)
	}
	end := fmt.Sprintf("end of round %d", round)
	all = join(all, query("ROLLBACK"), query("DISCARD ALL"), query("SELECT '"+end+"'"))
	moves := map[int]bool{} // ahead of that byte
	for _, at := range rapid.SliceOfN(rapid.IntRange(0, len(all)), 1, 3).Draw(rt, "moves") {
		moves[at] = true
	}
	cuts := map[int]bool{}
	for _, at := range rapid.SliceOfN(rapid.IntRange(1, len(all)), 0, 20).Draw(rt, "cuts") {
		cuts[at] = true
	}

	from := want.count()
	want.send(all)
	expect := want.normal(want.marked(from, end))

	from = l.count()
	var moving []<-chan error
	piece := 0
	for i := range len(all) + 1 {
		if cuts[i] || moves[i] || i == len(all) {
			l.send(all[piece:i])
			piece = i
		}
		if moves[i] {
			moving = append(moving, g.inBackground(false))
		}
	}
	got := l.normal(l.marked(from, end))
	at := fmt.Sprintf("round %d: %s", round, strings.Join(names, ", "))
	for _, m := range moving {
		require.NoError(rt, <-m, at)
	}
	same(rt, expect, got, at)
}
