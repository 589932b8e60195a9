package typemap

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

func u16(n int) []byte    { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

var (
	join   = wiretest.Join
	frame  = wiretest.Frame
	counts = wiretest.Counted
)

// arrayOf is a binary array of one text-like element.
func arrayOf(elem uint32) []byte {
	return join(u32(1), u32(0), u32(elem), u32(1), u32(1), counts([]byte("glad")))
}

// pairOf is a binary composite of an enum and an array of them.
func pairOf(elem, array uint32) []byte {
	return join(u32(2), u32(elem), counts([]byte("sad")), u32(array), counts(arrayOf(elem)))
}

func row(values ...[]byte) []byte {
	b := u16(len(values))
	for _, v := range values {
		if v == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(b, counts(v)...)
	}
	return wire.AppendFrame(nil, 'D', b)
}

func columns(types ...uint32) []byte { return columnsOf(0, types...) }

func columnsOf(table uint32, types ...uint32) []byte {
	b := u16(len(types))
	for i, typ := range types {
		b = append(b, join(fmt.Sprintf("c%d", i), table, 1, typ, 8, u32(0xffffffff), 0)...)
	}
	return wire.AppendFrame(nil, 'T', b)
}

func bindFrame(statement string, params [][]byte, format, results int) []byte {
	b := join("", statement, 1, format, len(params))
	for _, p := range params {
		b = append(b, counts(p)...)
	}
	return wire.AppendFrame(nil, 'B', append(b, join(1, results)...))
}

// step is bytes of one side and what the other side gets.
type step struct {
	client  bool
	in, out []byte
}

func c(in, out []byte) step { return step{client: true, in: in, out: out} }
func s(in, out []byte) step { return step{in: in, out: out} }
func same(client bool, typ byte, parts ...any) step {
	f := frame(typ, parts...)
	return step{client: client, in: f, out: f}
}

var (
	ready = frame('Z', []byte("I"))
	syncs = frame('S')
	exec  = frame('E', "", u32(0))
	done  = frame('C', "SELECT 1")
	p1    = frame('1')
	b2    = frame('2')
	c3    = frame('3')
	nope  = frame('E', []byte("SERROR\x00C42P01\x00Mno\x00\x00"))
)

// scripts are exchanges between a client that knows 16500 to 16502 and a server that
// has 16600 to 16602.
var scripts = map[string][]step{
	"described statement": {
		c(frame('P', "st", "SELECT $1", 1, uint32(16501)), frame('P', "st", "SELECT $1", 1, uint32(16601))),
		same(true, 'D', []byte("Sst\x00")),
		same(true, 'S'),
		s(p1, p1),
		s(frame('t', 1, uint32(16601)), frame('t', 1, uint32(16501))),
		s(columns(16601, 16602, 25), columns(16501, 16502, 25)),
		s(ready, ready),
		// It is executed without another description.
		c(bindFrame("st", [][]byte{arrayOf(16500)}, 1, 1), bindFrame("st", [][]byte{arrayOf(16600)}, 1, 1)),
		c(exec, exec), c(syncs, syncs),
		s(b2, b2),
		s(row(arrayOf(16600), pairOf(16600, 16601), []byte("x")), row(arrayOf(16500), pairOf(16500, 16501), []byte("x"))),
		s(row(nil, pairOf(16600, 16601), nil), row(nil, pairOf(16500, 16501), nil)),
		s(done, done), s(ready, ready),
		// As text nothing is changed, however it looks.
		c(bindFrame("st", [][]byte{arrayOf(16500)}, 0, 0), bindFrame("st", [][]byte{arrayOf(16500)}, 0, 0)),
		c(exec, exec), c(syncs, syncs), s(b2, b2), s(row(arrayOf(16600)), row(arrayOf(16600))), s(done, done), s(ready, ready),
	},
	"pipeline with an error": {
		c(frame('P', "st", "a", 1, uint32(16500)), frame('P', "st", "a", 1, uint32(16600))), c(syncs, syncs), s(p1, p1), s(ready, ready),
		// The second Parse of the name is refused, the third passed over: the first counts.
		c(frame('P', "st", "b", 1, uint32(25)), frame('P', "st", "b", 1, uint32(25))),
		c(bindFrame("st", [][]byte{arrayOf(16500)}, 1, 1), bindFrame("st", [][]byte{arrayOf(16500)}, 1, 1)),
		c(exec, exec), s(nope, nope),
		c(frame('P', "st", "c", 1, uint32(16501)), frame('P', "st", "c", 1, uint32(16601))),
		c(syncs, syncs), s(ready, ready),
		same(true, 'D', []byte("Sst\x00")), c(syncs, syncs),
		s(frame('t', 1, uint32(16602)), frame('t', 1, uint32(16502))), s(frame('n'), frame('n')), s(ready, ready),
		c(bindFrame("st", [][]byte{pairOf(16500, 16501)}, 1, 1), bindFrame("st", [][]byte{pairOf(16600, 16601)}, 1, 1)),
		c(exec, exec), c(syncs, syncs), s(b2, b2), s(done, done), s(ready, ready),
	},
	"simple query and function call that are passed over": {
		c(frame('P', "", "SELECT 1", 0), frame('P', "", "SELECT 1", 0)), s(nope, nope), // no Sync yet
		same(true, 'Q', "SELECT 2"), same(true, 'F', uint32(1), 0, 0, 0), c(syncs, syncs), s(ready, ready),
		same(true, 'Q', "SELECT 3"), s(columns(16601), columns(16501)), s(done, done), s(ready, ready),
		same(true, 'P', "", "SELECT 4", 0), same(true, 'D', []byte("S\x00")), c(bindFrame("", nil, 1, 1), bindFrame("", nil, 1, 1)), c(exec, exec), c(syncs, syncs),
		s(p1, p1), s(frame('t', 0), frame('t', 0)), s(columns(16601), columns(16501)), s(b2, b2),
		s(row(arrayOf(16600)), row(arrayOf(16500))), s(done, done), s(ready, ready),
	},
	"simple query of the catalog": {
		same(true, 'Q', "SELECT oid, typname FROM pg_type"),
		s(columnsOf(1247, 26, 19), columnsOf(1247, 26, 19)),
		s(row([]byte("16600"), []byte("16600")), row([]byte("16500"), []byte("16600"))),
		s(done, done), s(ready, ready),
		same(true, 'Q', "SELECT 'mood'::RegType::oid"),
		s(columnsOf(0, 26), columnsOf(0, 26)), s(row([]byte("16600")), row([]byte("16500"))), s(done, done), s(ready, ready),
		// Numbers in the text, as clients of the simple protocol put them there.
		c(frame('Q', "select typelem from pg_type where oid= 16500 "), frame('Q', "select typelem from pg_type where oid= 16600 ")),
		s(columnsOf(1247, 26), columnsOf(1247, 26)), s(done, done), s(ready, ready),
		c(frame('Q', "SELECT 16500 FROM pg_type t WHERE t.oid = ('16500'::int8) OR oid IN (16501,16502)"),
			frame('Q', "SELECT 16500 FROM pg_type t WHERE t.oid = ('16600'::int8) OR oid IN (16601,16602)")),
		s(done, done), s(ready, ready),
		same(true, 'Q', "PREPARE p AS SELECT FROM pg_type WHERE oid = 16500"), s(done, done), s(ready, ready),
		same(true, 'Q', "SELECT FROM pg_class c, pg_type t WHERE c.oid = 16500"), s(done, done), s(ready, ready),
		// The table of a composite has a number that the client may know as a type's.
		same(true, 'Q', "SELECT typrelid FROM pg_type"),
		s(frame('T', 1, "typrelid", uint32(1247), 12, uint32(26), 4, uint32(0xffffffff), 0), frame('T', 1, "typrelid", uint32(1247), 12, uint32(26), 4, uint32(0xffffffff), 0)),
		s(row([]byte("16500")), row([]byte("16500"))), s(done, done), s(ready, ready),
		same(true, 'Q', "SELECT oid FROM pg_class"),
		s(columnsOf(1259, 26), columnsOf(1259, 26)), s(row([]byte("16600")), row([]byte("16600"))), s(done, done), s(ready, ready),
	},
	"query of the catalog with a parameter": {
		same(true, 'P', "", "SELECT oid, typelem FROM pg_type t WHERE t.oid = ANY ($1)", 0),
		c(wire.AppendFrame(nil, 'B', join("", "", 0, 1, counts([]byte("{16500,25}")), 1, 1)),
			wire.AppendFrame(nil, 'B', join("", "", 0, 1, counts([]byte("{16600,25}")), 1, 1))),
		same(true, 'D', []byte("P\x00")), c(exec, exec), c(syncs, syncs),
		s(p1, p1), s(b2, b2), s(columnsOf(1247, 26, 26), columnsOf(1247, 26, 26)),
		s(row(u32(16601), u32(16600)), row(u32(16501), u32(16500))), s(done, done), s(ready, ready),
	},
	"text of another length": {
		same(true, 'P', "", "SELECT 1 FROM pg_type WHERE oid = $1", 0),
		c(wire.AppendFrame(nil, 'B', join("", "", 0, 1, counts(fmt.Append(nil, 16500|aside)), 0)),
			wire.AppendFrame(nil, 'B', join("", "", 0, 1, counts([]byte("16500")), 0))),
	},
	"copy": {
		same(true, 'Q', "COPY t FROM STDIN"), s(frame('G', []byte{0}, 0), frame('G', []byte{0}, 0)),
		same(true, 'd', []byte("1\n")), c(syncs, syncs), same(true, 'c'), s(done, done), s(ready, ready),
		// A Sync after an extended COPY is swallowed.
		same(true, 'P', "", "COPY t FROM STDIN", 0), c(bindFrame("", nil, 0, 0), bindFrame("", nil, 0, 0)), c(exec, exec), c(syncs, syncs),
		s(p1, p1), s(b2, b2), s(frame('G', []byte{0}, 0), frame('G', []byte{0}, 0)), same(true, 'c'), c(syncs, syncs), s(done, done), s(ready, ready),
		same(true, 'Q', "SELECT 1"), s(columns(16600), columns(16500)), s(done, done), s(ready, ready),
	},
}

// filtered is a Session as the Filter of a Tracker.
type filtered struct {
	*Session
	tracker wire.Tracker
}

func newFiltered(s *Session) *filtered {
	f := &filtered{Session: s}
	f.tracker.Filter = f
	return f
}

func (f *filtered) Ahead(dst, _ []byte) []byte { return dst }

func (f *filtered) Client(p []byte) []byte {
	out, _ := f.tracker.Client(p)
	return out
}

func (f *filtered) Server(p []byte) []byte {
	out, _ := f.tracker.Server(p)
	return out
}

func play(t require.TestingT, name string, steps []step, cut func([]byte) [][]byte) {
	session := newFiltered(New(clientTypes, serverTypes).NewSession(nil))
	for i, st := range steps {
		var got []byte
		for _, piece := range cut(append([]byte(nil), st.in...)) {
			if st.client {
				got = append(got, session.Client(piece)...)
			} else {
				got = append(got, session.Server(piece)...)
			}
		}
		require.Equal(t, st.out, got, "%s: step %d, a %c", name, i, st.in[0])
		require.False(t, session.lost, "%s: step %d, a %c", name, i, st.in[0])
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	for name, steps := range scripts {
		play(t, name, steps, func(b []byte) [][]byte { return [][]byte{b} })
		play(t, name, steps, func(b []byte) [][]byte { // one byte at a time
			var list [][]byte
			for i := range b {
				list = append(list, b[i:i+1])
			}
			return list
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		for name, steps := range scripts {
			play(t, name, steps, func(b []byte) [][]byte {
				at := rapid.IntRange(0, len(b)).Draw(t, "cut")
				return [][]byte{b[:at], b[at:]}
			})
		}
	})
}

// TestManyAtOnce takes all that a side sends in one piece, with what stands between.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	session := newFiltered(New(clientTypes, serverTypes).NewSession([]Statement{{Name: "old", Params: []uint32{16601}, Columns: []Column{{Type: 16601}}}}))
	in := join(bindFrame("old", [][]byte{arrayOf(16500)}, 1, 1), exec, bindFrame("old", [][]byte{arrayOf(16500)}, 1, 0), exec, syncs)
	want := join(bindFrame("old", [][]byte{arrayOf(16600)}, 1, 1), exec, bindFrame("old", [][]byte{arrayOf(16600)}, 1, 0), exec, syncs)
	require.Equal(t, want, session.Client(in))
	in = join(b2, row(arrayOf(16600)), frame('N', []byte{0}), done, b2, row(arrayOf(16600)), done, ready)
	want = join(b2, row(arrayOf(16500)), frame('N', []byte{0}), done, b2, row(arrayOf(16600)), done, ready)
	require.Equal(t, want, session.Server(in))
	require.False(t, session.lost)
	require.Equal(t, c3, session.Server(append([]byte(nil), c3...)), "an answer to nothing")
	require.True(t, session.lost)
	require.Equal(t, columns(16500), session.Server(columns(16600)), "descriptions are translated all the same")
}

// FuzzSession: nothing that either side sends makes it panic or lose a byte.
func FuzzSession(f *testing.F) {
	for _, steps := range scripts {
		var client, server []byte
		for _, st := range steps {
			if st.client {
				client = append(client, st.in...)
			} else {
				server = append(server, st.in...)
			}
		}
		f.Add(client, server, uint16(7))
	}
	f.Fuzz(func(t *testing.T, client, server []byte, cut uint16) {
		session := newFiltered(New(clientTypes, serverTypes).NewSession(nil))
		step := int(cut)%512 + 1
		for len(client)+len(server) > 0 {
			n := min(step, len(client))
			session.Client(client[:n:n])
			client = client[n:]
			n = min(step, len(server))
			session.Server(server[:n:n])
			server = server[n:]
		}
	})
}
