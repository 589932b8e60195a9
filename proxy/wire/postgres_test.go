package wire_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// patience bounds each wait for a reply of PostgreSQL: test machines are shared and slow.
const patience = time.Minute

// live is a session with a real server, watched by a Tracker.
type live struct {
	t      *testing.T
	conn   net.Conn
	tr     wire.Tracker
	frames *wire.Reader
	log    []string
	marks  int
}

func newLive(t *testing.T, dsn pg.DSN) *live {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	c, err := backend.Dial(ctx, backend.Config{
		Address: net.JoinHostPort(dsn.Host(), fmt.Sprint(dsn.Port())),
		User:    dsn.User(), Password: dsn.Password(), Database: dsn.Database(),
	})
	require.NoError(t, err)
	require.Empty(t, c.Leftover())
	t.Cleanup(func() { _ = c.Close() })
	return &live{t: t, conn: c, frames: wire.NewReader(c, 1<<20)}
}

func (l *live) send(p []byte) {
	l.t.Helper()
	require.NoError(l.t, fed(l.tr.Client(p)))
	_, err := l.conn.Write(p)
	require.NoError(l.t, err)
}

// next reads one frame of the server.
func (l *live) next() wire.Frame {
	l.t.Helper()
	require.NoError(l.t, l.conn.SetReadDeadline(time.Now().Add(patience)))
	f, err := l.frames.Next()
	require.NoError(l.t, err, "the tracker says %q behind %v", l.tr.Reason(), l.log)
	require.NoError(l.t, fed(l.tr.Server(wire.AppendFrame(nil, f.Type, f.Body))))
	word := string(f.Type)
	if f.Type == 'E' {
		e, err := wire.DecodeError(f.Body)
		require.NoError(l.t, err)
		require.False(l.t, e.Fatal(), "%v", e)
		word += e.Code
	}
	l.log = append(l.log, word)
	return f
}

// until reads up to and including a frame of that type.
func (l *live) until(typ byte) {
	l.t.Helper()
	for l.next().Type != typ {
	}
}

// settle reads until there is a boundary, and then asks a question: its answer must be the next
// thing that comes, or the tracker saw a boundary where a reply was still to come.
func (l *live) settle() {
	l.t.Helper()
	for l.tr.Reason() == wire.ReasonOutstanding || l.tr.Reason() == wire.ReasonCopy {
		l.next()
	}
	require.Equal(l.t, "", l.tr.Reason(), "behind %v", l.log)
	l.mark()
}

// mark asks a question and checks that nothing comes before the answer, and nothing after it.
func (l *live) mark() {
	l.t.Helper()
	l.marks++
	want := fmt.Sprintf("mark %d", l.marks)
	l.send(wiretest.AppendQuery(nil, "select '"+want+"'"))
	for _, typ := range []byte("TDCZ") {
		f := l.next()
		require.Equal(l.t, string(typ), string(f.Type), "behind %v", l.log)
		if typ == 'D' {
			row, err := wire.DecodeDataRow(nil, f.Body)
			require.NoError(l.t, err)
			require.Equal(l.t, want, string(row[0]))
		}
	}
	require.True(l.t, l.tr.Boundary(), l.tr.Reason())
	require.Empty(l.t, l.frames.Buffered())
}

// Building blocks: what a client sends.
var (
	sync     = wire.AppendSync(nil)
	flush    = wiretest.AppendFlush(nil)
	copyDone = wire.AppendFrame(nil, 'c', nil)
	copyFail = wire.AppendFrame(nil, 'f', []byte("stop\x00"))
	good     = wire.AppendFrame(nil, 'd', []byte("1\n"))
	bad      = wire.AppendFrame(nil, 'd', []byte("x\n"))
)

func query(sql string) []byte { return wiretest.AppendQuery(nil, sql) }

// unit is Parse, Bind, Describe, Execute of the unnamed statement, without Sync.
func unit(sql string) []byte {
	p := wire.AppendParse(nil, "", sql, nil)
	p = wire.AppendBind(p, "", "", nil, nil, nil)
	p = wire.AppendDescribe(p, 'P', "")
	return wire.AppendExecute(p, "", 0)
}

const copySQL = "copy pg_temp.t from stdin"

// TestPostgresTraps runs pipelines against a real server. Each step is sent in one write; some wait
// for a frame of the server before the next step.
func TestPostgresTraps(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	type step struct {
		send []byte
		wait byte // read up to this frame before the next step; 0 for none
	}
	for name, steps := range map[string][]step{
		"two queries":                    {{frames(query("select 1"), query("select 2; select 3")), 0}},
		"empty query":                    {{query(""), 0}},
		"failed query":                   {{query("select 1/0"), 0}},
		"units":                          {{frames(unit("select 1"), sync, unit("select 2"), sync), 0}},
		"empty statement":                {{frames(unit(""), sync), 0}},
		"error, skipped query":           {{frames(unit("select 1/0"), query("select 5"), sync), 0}},
		"error, query sent late":         {{frames(unit("select 1/0"), flush), 'E'}, {frames(query("select 5"), sync), 0}},
		"query in a unit":                {{frames(wire.AppendParse(nil, "", "select 1", nil), query("select 5")), 0}},
		"error of a sync":                {{query("create temp table d (a int unique deferrable initially deferred)"), 'Z'}, {frames(unit("insert into pg_temp.d values (1), (1)"), sync), 0}},
		"portal suspended":               {{frames(wire.AppendExecute(wire.AppendBind(wire.AppendParse(nil, "", "select generate_series(1,3)", nil), "", "", nil, nil, nil), "", 1), sync), 0}},
		"describe and close":             {{frames(wire.AppendClose(wire.AppendDescribe(wire.AppendParse(nil, "n", "select 1", nil), 'S', "n"), 'S', "n"), sync), 0}},
		"unknown statement":              {{frames(wire.AppendBind(nil, "", "nope", nil, nil, nil), sync), 0}},
		"copy in, simple":                {{query(copySQL), 'G'}, {frames(good, good, copyDone), 0}},
		"copy in, simple, early":         {{frames(query(copySQL), good, copyDone), 0}},
		"copy in, simple, twice":         {{frames(query(copySQL+";"+copySQL), good, copyDone, good, copyDone), 0}},
		"copy in, simple, data error":    {{frames(query(copySQL), bad, good, copyDone), 0}},
		"copy in, simple, refused":       {{frames(query("copy nope from stdin"), good, copyDone), 0}},
		"copy fail":                      {{frames(query(copySQL), good, copyFail), 0}},
		"stray copy data":                {{frames(copyDone, good, copyFail, query("select 1"), copyDone), 0}},
		"query behind copy":              {{frames(query(copySQL), good, copyDone, query("select 1")), 0}},
		"swallowed sync":                 {{frames(unit(copySQL), sync), 'G'}, {frames(good, copyDone), 0}, {sync, 0}},
		"swallowed sync, early":          {{frames(unit(copySQL), sync, good, copyDone, sync), 0}},
		"syncs in the data":              {{frames(unit(copySQL), sync, sync, good, sync, copyDone, sync), 0}},
		"one sync behind the data":       {{frames(unit(copySQL), good, copyDone, sync), 0}},
		"flush, then data":               {{frames(unit(copySQL), flush), 'G'}, {frames(good, copyDone, sync), 0}},
		"unit behind copy":               {{frames(unit(copySQL), sync, good, copyDone, sync, unit("select 1"), sync), 0}},
		"extended copy fail":             {{frames(unit(copySQL), good, copyFail, sync), 0}},
		"extended data error":            {{frames(unit(copySQL), bad, copyDone, sync), 0}},
		"extended data error, sync late": {{frames(unit(copySQL), flush), 'G'}, {bad, 0}, {copyDone, 'E'}, {frames(good, copyDone, sync), 0}},
		"copy out":                       {{frames(query("copy (select 1) to stdout"), unit("copy (select 2) to stdout"), sync), 0}},
		"transaction":                    {{frames(query("begin"), unit("select 1/0"), sync, query("rollback")), 0}},
		"function call":                  {{wire.AppendFrame(nil, 'F', []byte{0, 0, 0x05, 0x22, 0, 0, 0, 0, 0, 0}), 0}},
		"listen and notice":              {{query("listen a; notify a; do $$begin raise notice 'x'; end$$"), 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLive(t, dsn)
			l.send(query("create temp table t (a int)"))
			l.settle()
			for _, s := range steps {
				l.send(s.send)
				if s.wait != 0 {
					l.until(s.wait)
				}
			}
			l.settle()
		})
	}
}

// TestPostgresDoubt: an error in an extended COPY into which a Sync was sent. Whether it was
// swallowed depends on the server's timing; in both cases the count is certain again when the
// client's next statement has been answered.
func TestPostgresDoubt(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	l := newLive(t, dsn)
	l.send(query("create temp table t (a int)"))
	l.settle()
	// Swallowed: it is read ahead of the row that fails.
	l.send(frames(unit(copySQL), sync, bad, copyDone, sync))
	l.until('E')
	require.Equal(t, wire.ReasonUncertain, l.tr.Reason())
	l.until('Z')
	l.mark()
	// Answered: the COPY fails in a trigger before it reads anything.
	l.send(query("create function pg_temp.f() returns trigger language plpgsql as $$begin raise exception 'no'; end$$;" +
		"create trigger x before insert on pg_temp.t for each statement execute function pg_temp.f()"))
	l.settle()
	l.send(frames(unit(copySQL), sync))
	l.until('E')
	require.Equal(t, wire.ReasonUncertain, l.tr.Reason())
	l.until('Z')
	require.True(t, l.tr.Boundary())
	l.mark()
}

// TestPostgresRandom sends random pipelines in random cuts: the tracker must come to a boundary
// exactly when the server is done.
func TestPostgresRandom(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	blocks := map[string][]byte{
		"query": query("select 1"), "two": query("select 1; select 2"), "fail": query("select 1/0"), "empty": query(""),
		"unit": frames(unit("select 1"), sync), "failed unit": frames(unit("select 1/0"), unit("select 1"), sync),
		"open": unit("select 7"), "open fail": unit("select 1/0"), "sync": sync, "flush": flush,
		"begin": query("begin"), "rollback": query("rollback"), "stray": frames(copyDone, good),
		"copy": frames(query(copySQL), good, copyDone), "copy bad": frames(query(copySQL), bad, copyDone),
		"xcopy": frames(unit(copySQL), sync, good, sync, copyDone, sync), "xcopy bad": frames(unit(copySQL), bad, copyDone, sync),
		"xcopy fail": frames(unit(copySQL), good, copyFail, sync), "xcopy open": frames(unit(copySQL), sync, good, copyDone),
		"out": query("copy (select generate_series(1,50)) to stdout"),
	}
	names := make([]string, 0, len(blocks))
	for n := range blocks {
		names = append(names, n)
	}
	for worker := range 4 {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			l := newLive(t, dsn)
			l.send(query("create temp table t (a int)"))
			l.settle()
			for round := range 150 {
				var script []string
				var p []byte
				for range 1 + rand.IntN(8) {
					n := names[rand.IntN(len(names))]
					script = append(script, n)
					p = append(p, blocks[n]...)
				}
				p = append(append(p, sync...), query("rollback")...)
				l.log = []string{fmt.Sprintf("round %d: %s:", round, strings.Join(script, ", "))}
				for len(p) > 0 {
					n := 1 + rand.IntN(len(p))
					l.send(p[:n])
					p = p[n:]
				}
				l.settle()
			}
		})
	}
}

// TestPostgresUnnamed: what the Observer is told of the unnamed statement is what the server has.
func TestPostgresUnnamed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	run := frames(wire.AppendBind(nil, "", "", nil, nil, nil), wire.AppendExecute(nil, "", 0), sync)
	for name, c := range map[string]struct {
		send []byte
		has  string // what the unnamed statement yields, empty for none
	}{
		"parsed":            {frames(unnamed("select 'a'"), sync), "a"},
		"refused":           {frames(unnamed("select nope"), sync), ""},
		"discarded":         {frames(wire.AppendBind(nil, "", "nope", nil, nil, nil), unnamed("select 'b'"), sync), "old"},
		"query":             {query("select 1"), ""},
		"failed query":      {query("nonsense"), ""},
		"discarded query":   {frames(wire.AppendBind(nil, "", "nope", nil, nil, nil), query("select 1"), sync), "old"},
		"closed":            {frames(wire.AppendClose(nil, 'S', ""), sync), ""},
		"portal closed":     {frames(wire.AppendClose(nil, 'P', ""), sync), "old"},
		"discard all":       {frames(wire.AppendParse(nil, "n", "discard all", nil), wire.AppendBind(nil, "", "n", nil, nil, nil), wire.AppendExecute(nil, "", 0), sync), "old"},
		"function call":     {wire.AppendFrame(nil, 'F', []byte{0, 0, 0x05, 0x22, 0, 0, 0, 0, 0, 0}), "old"},
		"in failed, parsed": {frames(query("begin"), query("select 1/0"), unnamed("rollback"), sync, unnamed("select 'c'"), sync, query("rollback")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLive(t, dsn)
			var n notes
			l.tr.Observer = &n
			l.send(frames(unnamed("select 'old'"), sync))
			l.until('Z')
			l.send(c.send)
			for !l.tr.Boundary() {
				l.next()
			}
			told := "" // the last word about the unnamed statement
			for _, w := range n.got {
				if w == "simple" || strings.HasPrefix(w, "parse ") {
					told = w
				}
			}
			got := ""
			l.send(run)
			for !l.tr.Boundary() {
				if f := l.next(); f.Type == 'D' {
					row, err := wire.DecodeDataRow(nil, f.Body)
					require.NoError(t, err)
					got = string(row[0])
				}
			}
			require.Equal(t, c.has, got)
			if c.has == "" {
				require.Equal(t, "simple", told)
			} else {
				require.Equal(t, "parse select '"+c.has+"' <nil>", told)
			}
		})
	}
}
