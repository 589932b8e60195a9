package rewrite

import (
	"encoding/binary"
	"fmt"

	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// Types as the clients and the server of a conversation number them.
var (
	clientTypes = []typemap.Type{
		{OID: 16500, Schema: "public", Name: "mood", Kind: 'e'},
		{OID: 16501, Schema: "public", Name: "mood", Kind: typemap.KindArray, Elem: 16500},
	}
	serverTypes = []typemap.Type{
		{OID: 16600, Schema: "public", Name: "mood", Kind: 'e'},
		{OID: 16601, Schema: "public", Name: "mood", Kind: typemap.KindArray, Elem: 16600},
		{OID: 16500, Schema: "public", Name: "fresh", Kind: 'e'},
	}
)

// newFilter makes a Filter with everything that there can be to change.
func newFilter(tracker *wire.Tracker) *Filter {
	m := typemap.New(clientTypes, serverTypes)
	late := map[string]state.LateStatement{}
	for _, name := range []string{"late1", "late2", ""} {
		late[name] = state.LateStatement{Parse: wire.AppendParse(nil, name, "SELECT $1", []uint32{16601})}
	}
	f := &Filter{
		Late:     NewLate(late, m, tracker),
		Backends: NewBackends(func(pid uint32) (uint32, bool) { return pid + 100, pid < 1000 }, map[string][]int{"kills": {0}}),
		Types:    m.NewSession([]typemap.Statement{{Name: "old", Params: []uint32{16601}, Columns: []typemap.Column{{Type: 16601}}}}),
		PIDs:     func(pid uint32) uint32 { return pid + 1 },
	}
	tracker.Filter = f
	return f
}

var (
	frame   = wiretest.Frame
	counted = wiretest.Counted
)

// array is a binary array with one member, of that type.
func array(elem uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, 1)
	for _, n := range []uint32{0, elem, 1, 1} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return append(b, counted([]byte("ok"))...)
}

// scripts are conversations to begin with: pairs of a byte for who speaks, below 128 a client, from
// 128 the server, which answers, and from 192 its news; and one for what they say.
var scripts = [][]byte{
	{0, 0, 2, 0, 5, 0, 7, 0, 128, 1, 128, 1, 128, 1, 128, 2, 128, 1},                                        // an unnamed statement
	{2, 130, 5, 0, 4, 128, 7, 0, 128, 2, 128, 2, 128, 1, 128, 1, 4, 4, 7, 0, 128, 1, 128, 1},                // a named one, described
	{0, 1, 7, 0, 128, 1, 128, 1, 0, 1, 0, 1, 6, 1, 7, 0, 128, 5, 128, 1, 128, 1, 128, 1, 7, 0, 128, 1},      // refused
	{8, 0, 128, 3, 8, 4, 128, 11, 192, 0, 193, 1, 194, 2, 3, 5, 5, 0, 7, 0, 128, 1, 128, 1, 128, 2, 128, 1}, // numbers of types and backends
	{8, 7, 128, 2, 9, 5, 7, 0, 10, 0, 128, 1, 128, 1, 128, 1, 8, 0, 128, 3},                                 // COPY
	{0, 0, 2, 0, 5, 0, 128, 1, 128, 1, 128, 1, 128, 4, 9, 9, 7, 0, 10, 0, 7, 0, 128, 1, 128, 1, 128, 1, 128, 1},
	{0, 0, 2, 0, 5, 0, 7, 0, 9, 9, 10, 1, 7, 0, 128, 1, 128, 1, 128, 1, 128, 4, 128, 1, 128, 1, 128, 1, 128, 1, 8, 0, 128, 1},
	{8, 1, 128, 1, 128, 1, 128, 1, 8, 2, 128, 5, 128, 1, 128, 1, 6, 2, 7, 0, 128, 1, 128, 1, 8, 1, 128, 1}, // late statements
	{2, 2, 4, 3, 5, 0, 7, 0, 128, 1, 128, 1, 128, 5, 128, 1, 128, 1, 0, 3, 7, 0, 128, 1, 128, 1, 128, 1},
	{12, 17, 12, 16, 7, 0, 128, 1, 128, 1, 128, 1, 11, 0, 11, 1, 128, 1, 128, 1}, // large ones
}

// tail fetches rows of a statement that was there from the beginning, to see what the script before
// it has left.
var tail = []byte{2, 130, 5, 0, 4, 4, 7, 0, 128, 2, 128, 2, 128, 1, 128, 1}

var names = []string{"", "a", "late1", "late2", "old", "kills"}

// clientFrame is the frame of a client that two bytes choose.
func clientFrame(kind, which byte) []byte {
	name := names[int(which)%len(names)]
	switch kind % 13 {
	case 0:
		return frame('P', name, "SELECT $1", 1, uint32(16501))
	case 1:
		return frame('P', name, "SELECT pg_cancel_backend($1)", 0)
	case 2:
		return frame('B', "", name, 1, 1, 1, counted(array(16500)), 1, int(which>>7))
	case 3:
		return frame('B', "", name, 0, 1, counted([]byte("42")), 0)
	case 4:
		return frame('D', []byte{"SP"[which>>7]}, name)
	case 5:
		return frame('E', "", uint32(which>>6))
	case 6:
		return frame('C', []byte{"SP"[which>>7]}, name)
	case 7:
		return frame('S')
	case 8:
		return frame('Q', []string{"SELECT oid FROM pg_type WHERE oid = 16500", "EXECUTE late1(1)", "DEALLOCATE late2", "SET app.x = 1",
			"SELECT pg_terminate_backend(42)", "PREPARE a AS SELECT pg_cancel_backend($1)", "EXECUTE a(42)", "COPY t FROM STDIN"}[which%8])
	case 9:
		return frame('d', make([]byte, int(which)))
	case 10:
		return frame([]byte("cf")[which&1])
	case 11:
		return frame([]byte("HF")[which&1], make([]byte, int(which>>1)))
	}
	return frame('P', name, fmt.Sprintf("SELECT '%*d'", 1<<(which%18), 1), 0)
}

// server answers what it gets as PostgreSQL does, with errors where a byte says so.
type server struct {
	in       []byte
	skipping bool
	copying  byte // the request that began a COPY, 0 outside
}

// next takes one frame, and returns the answer.
func (s *server) next(choice byte) []byte {
	typ, body, rest, ok := wire.Cut(s.in)
	if !ok {
		return nil
	}
	s.in = rest
	ready, done := frame('Z', []byte{'I'}), frame('C', "SELECT 1")
	refusal := frame('E', []byte("SERROR\x00C42P01\x00Mno\x00\x00"))
	switch {
	case s.skipping && typ != 'S':
		return nil
	case s.copying != 0:
		from := s.copying
		switch {
		case typ == 'd' || typ == 'H' || typ == 'S':
			return nil
		case typ == 'c' && from == 'Q':
			s.copying = 0
			return append(done, ready...)
		case typ == 'c':
			s.copying = 0
			return done
		}
		s.copying = 0
		if from == 'Q' {
			return append(refusal, ready...)
		}
		s.skipping = true
		return refusal
	}
	fails := choice%5 == 0
	switch typ {
	case 'S':
		s.skipping = false
		return ready
	case 'Q', 'F':
		switch {
		case fails:
			return append(refusal, ready...)
		case typ == 'F':
			return append(frame('V', uint32(0xffffffff)), ready...)
		case choice&1 == 0:
			s.copying = 'Q'
			return frame('G', []byte{0}, 0)
		}
		return append(append(rows(choice), done...), ready...)
	case 'P', 'B', 'D', 'E', 'C':
		if fails {
			s.skipping = true
			return refusal
		}
	default:
		return nil
	}
	switch typ {
	case 'P':
		return frame('1')
	case 'B':
		return frame('2')
	case 'C':
		return frame('3')
	case 'D':
		var b []byte
		if body[0] == 'S' {
			b = frame('t', 1, uint32(16601))
		}
		if choice&1 == 0 {
			return append(b, frame('n')...)
		}
		return append(b, columns()...)
	}
	switch choice % 4 {
	case 0:
		s.copying = 'E'
		return frame('G', []byte{0}, 0)
	case 1:
		return frame('s')
	}
	return append(row(), done...)
}

func columns() []byte {
	return frame('T', 1, "c", uint32(0), 0, uint32(16601), 0xffff, uint32(0xffffffff), 1)
}
func row() []byte { return frame('D', 1, counted(array(16600))) }

func rows(choice byte) []byte {
	b := append(columns(), row()...)
	if choice&2 != 0 {
		b = append(b, frame('C', "SELECT 1")...)
		b = append(b, frame('T', 1, "oid", uint32(1247), 1, uint32(26), 4, uint32(0xffffffff), 0)...)
		b = append(b, frame('D', 1, counted([]byte("16600")))...)
	}
	return b
}

// news is what a server sends without being asked.
func news(choice byte) []byte {
	switch choice % 3 {
	case 0:
		return wiretest.AppendNotification(nil, uint32(choice), "c", "p")
	case 1:
		return wiretest.AppendNotice(nil, &wire.ServerError{Severity: "NOTICE", Code: "00000", Message: "A"})
	}
	return wire.AppendParameterStatus(nil, "application_name", fmt.Sprint(choice))
}
