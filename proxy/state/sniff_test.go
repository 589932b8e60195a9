package state

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// sniffed is a Sniffer that a Tracker shows what a client sends.
type sniffed struct {
	Sniffer
	tracker wire.Tracker
}

func (s *sniffed) Client(p []byte) {
	s.tracker.Follower = &s.Sniffer
	_, _ = s.tracker.Client(p)
}

func TestSnifferSeesStatementsInAnyCut(t *testing.T) {
	t.Parallel()
	var b []byte
	b = wiretest.AppendQuery(b, "SET app.q = 1")
	b = wire.AppendParse(b, "set x.name = 1", "select set_config('app.p', $1, false)", []uint32{25})
	b = wire.AppendBind(b, "", "", nil, [][]byte{[]byte("set app.data = 1")}, nil)
	b = wire.AppendSync(b)
	b = wiretest.AppendQuery(b, "select '"+string(bytes.Repeat([]byte("x"), 2*maxSniff))+"'; set app.far = 1")
	b = wiretest.AppendQuery(b, "SET app.last = 1")
	for _, size := range []int{1, 2, 3, 7, 64, 8192} {
		var s sniffed
		for part := range slices.Chunk(b, size) {
			s.Client(part)
		}
		got := s.Names.List()
		slices.Sort(got)
		require.Equal(t, []string{"app.last", "app.p", "app.q"}, got, "cut at %d", size)
		require.Contains(t, s.Names.OpaqueReason(), "more than a megabyte", "cut at %d", size)
		require.LessOrEqual(t, cap(s.part), keepSniff)
	}
}

func TestSnifferPassesOverLargeData(t *testing.T) {
	t.Parallel()
	var s sniffed
	text := bytes.Repeat([]byte("the set of assets; setup do not "), 3*maxSniff/32)
	s.Client(wiretest.AppendQuery(nil, "insert into notes values ('"+string(text)+"')"))
	require.Empty(t, s.Names.OpaqueReason())
	require.Empty(t, s.Names.List())
}

// bound is a Bind whose parameters have these values.
func bound(statement string, format int16, params ...string) []byte {
	values := make([][]byte, len(params))
	for i, p := range params {
		values[i] = []byte(p)
	}
	return wire.AppendBind(nil, "", statement, []int16{format}, values, nil)
}

func TestSnifferLearnsNamesThatAreBound(t *testing.T) {
	t.Parallel()
	parse := func(name, sql string) []byte { return wire.AppendParse(nil, name, sql, nil) }
	for _, c := range []struct {
		what   string
		frames [][]byte
		names  []string
		opaque bool
	}{
		{"unnamed, text", [][]byte{parse("", "select set_config($1, $2, false)"), bound("", 0, "App.One", "app.value")}, []string{"app.one"}, false},
		{"named, binary", [][]byte{parse("s", "select pg_catalog.set_config($2::text, $1, false)"), parse("", "select 1"), bound("s", 1, "x.y", "app.two")},
			[]string{"app.two"}, false},
		{"again and again", [][]byte{parse("s", "select set_config($1, $2, $3)"), bound("s", 0, "app.a", "", "f"), bound("s", 0, "app.b", "", "f")},
			[]string{"app.a", "app.b"}, false},
		{"two calls", [][]byte{parse("s", "select set_config($1, $2, false), set_config($3, $4, false)"), bound("s", 0, "a.a", "b.b", "c.c", "d.d")},
			[]string{"a.a", "c.c"}, false},
		{"local", [][]byte{parse("", "select set_config($1, $2, true)"), bound("", 0, "app.local", "x")}, nil, false},
		{"computed of a parameter", [][]byte{parse("", "select set_config('app.' || $1, $2, false)"), bound("", 0, "one", "x")}, nil, true},
		{"other statements", [][]byte{parse("s", "select set_config($1, $2, false)"), parse("", "select $1::text"), bound("", 0, "not.this", "x")}, nil, false},
		{"a Parse that may fail", [][]byte{parse("s", "select set_config($1, $2, false)"), parse("s", "select $1, $2"), bound("s", 0, "app.x", "x")},
			[]string{"app.x"}, false},
		{"prepared by SQL in a Parse", [][]byte{parse("", "prepare p as select set_config($1, $2, false)"), wiretest.AppendQuery(nil, "EXECUTE p('app.sql', 'x')")},
			[]string{"app.sql"}, false},
		{"prepared by a Parse, run by SQL", [][]byte{parse("p", "select set_config($1, $2, false)"), wiretest.AppendQuery(nil, "execute P ('app.sql', 'x')")},
			[]string{"app.sql"}, false},
		{"run by SQL with a computed name", [][]byte{parse("p", "select set_config($1, $2, false)"), wiretest.AppendQuery(nil, "execute p(lower('X.Y'), 'x')")}, nil, true},
		{"function call", [][]byte{append([]byte("F\x00\x00\x00\x21\x00\x00\x08\x1e\x00\x00\x00\x03"),
			"\x00\x00\x00\x05app.f\x00\x00\x00\x01x\x00\x00\x00\x01f\x00\x00"...)}, []string{"app.f"}, false},
	} {
		for _, size := range []int{1, 3, 4096} {
			var s sniffed
			for part := range slices.Chunk(bytes.Join(c.frames, nil), size) {
				s.Client(part)
			}
			got := s.Names.List()
			slices.Sort(got)
			require.ElementsMatch(t, c.names, got, "%s, cut at %d", c.what, size)
			require.Equal(t, c.opaque, s.Names.OpaqueReason() != "", "%s: %s", c.what, s.Names.OpaqueReason())
		}
	}
}

func TestUnnamedStatementOfBeforeIsForgotten(t *testing.T) {
	t.Parallel()
	var s sniffed
	setter := wire.AppendParse(nil, "", "select set_config($1, $2, false)", nil)
	s.Client(setter)
	s.Names.Current(setter[5:])
	s.Client(bound("", 0, "app.one", "x"))
	other := wire.AppendParse(nil, "", "select $1::text", nil)
	s.Client(other)
	s.Client(bound("", 0, "may.be", "x")) // its Parse may have failed
	s.Names.Current(other[5:])
	s.Client(bound("", 0, "photo.jpg", "x"))
	require.ElementsMatch(t, []string{"app.one", "may.be"}, s.Names.List())
	s.Client(setter)
	s.Names.Current(nil)
	s.Client(bound("", 0, "photo.jpg", "x"))
	require.ElementsMatch(t, []string{"app.one", "may.be"}, s.Names.List())
}

func TestSnifferOfLargeBinds(t *testing.T) {
	t.Parallel()
	large := string(bytes.Repeat([]byte("x"), 2*maxSniff))
	for _, c := range []struct {
		call   string
		params []string
		opaque bool
	}{
		{"select set_config($1, $2, false)", []string{"app.a", large}, false},
		{"select set_config($2, $1, false)", []string{large, "app.a"}, true},
	} {
		var s sniffed
		s.Client(wire.AppendParse(nil, "s", c.call, nil))
		s.Client(bound("s", 0, c.params...))
		require.Equal(t, c.opaque, s.Names.OpaqueReason() != "")
		require.Equal(t, c.opaque, len(s.Names.List()) == 0)
		require.LessOrEqual(t, cap(s.part), keepSniff)
	}
}

func TestCallsInCallsTakeNoSquareOfTime(t *testing.T) {
	t.Parallel()
	var n Names
	text := bytes.Repeat([]byte("set_config("), maxSniff/11)
	n.statement(text, containsSet(text)) // would take minutes
	require.NotEmpty(t, n.OpaqueReason())
}

func TestSnifferAllocatesNothing(t *testing.T) {
	b := wiretest.AppendQuery(nil, "select 1 from accounts where id = 5")
	b = wire.AppendSync(wire.AppendBind(b, "", "s1", nil, [][]byte{[]byte("5")}, nil))
	var s sniffed
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Client(b) }))
}

func FuzzSniffer(f *testing.F) {
	f.Add(wiretest.AppendQuery(nil, "set a.b=1"), 3)
	f.Fuzz(func(_ *testing.T, b []byte, size int) {
		var s sniffed
		for part := range slices.Chunk(b, max(1, size)) {
			s.Client(part)
		}
	})
}
