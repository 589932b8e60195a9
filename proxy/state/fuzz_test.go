package state

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"

	"crossfade/proxy/wire"
)

// FuzzCapture reads rows of a server that may send anything: what they say is checked,
// and judging, comparing and leaving out never fail on it.
func FuzzCapture(f *testing.F) {
	f.Add("me", "u", "r", "", "UTF8", int64(7), []byte("statement\x00a\x00select $1\x00\x00true\x00\x02parameter\x00a\x00pg_catalog\x00int4\x0023\x00\x01"))
	f.Add("me", "u", "r", "", "UTF8", int64(7), []byte("lock\x00\x00\x00\x001/2/2/ShareLock\x00\x01channel\x00c\x00\x00\x00\x00\x01"))
	f.Add("statement", "a", "", "", "", int64(-1), []byte("setting\x00TimeZone\x00UTC\x00GMT\x00session/user\x00\x01temp\x00t\x00\x00\x00table\x00\x01"))
	f.Fuzz(func(t *testing.T, kind, a, v, c, d string, n int64, more []byte) {
		build := func() (*State, error) {
			b := stateBuilder{state: &State{
				Settings: map[string]Setting{}, Custom: map[string]string{}, Statements: map[string]Statement{},
				Channels: map[string]struct{}{}, Locks: map[Lock]struct{}{},
			}, types: map[uint32]Type{}}
			number := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
			if err := b.row([][]byte{[]byte(kind), []byte(a), []byte(v), []byte(c), []byte(d), number(n)}); err != nil {
				return nil, err
			}
			words := strings.Split(string(more), "\x00")
			for ; len(words) >= 6; words = words[6:] {
				cols := make([][]byte, 6)
				for i := range 5 {
					cols[i] = []byte(words[i])
				}
				cols[5] = number(int64(len(words[5])))
				if words[5] == "" {
					cols[5] = nil // not a number
				}
				if err := b.row(cols); err != nil {
					return nil, err
				}
			}
			return b.finish(CaptureSpec{Unnamed: &wire.Parse{Query: a, OIDs: []uint32{23, 20000}}})
		}
		s, err := build()
		if err != nil {
			return
		}
		s.Judge()
		for _, st := range s.Statements {
			_, _ = RebuildPrepare(st)
		}
		other, err := build()
		if err != nil {
			t.Fatal(err)
		}
		if diff := Compare(s, other, Everything, nil); len(diff) > 0 {
			t.Fatalf("unequal to itself: %v", diff)
		}
	})
}

// FuzzRebuildPrepare: one PREPARE that was made of a text is made of itself again.
func FuzzRebuildPrepare(f *testing.F) {
	f.Add("a", "prepare a as select 1; select 2")
	f.Add("b", `insert into t values ('x'); PREPARE "b" (int) AS select $1 -- end`)
	f.Add("a", "prepare a as select $q$ ; $q$, E'\\';', U&\"x\" /* /* */ */")
	f.Fuzz(func(t *testing.T, name, text string) {
		if !utf8.ValidString(name) || strings.ContainsRune(name+text, 0) || name == "" {
			return
		}
		one, err := RebuildPrepare(Statement{Name: name, Text: text})
		if err != nil {
			return
		}
		again, err := RebuildPrepare(Statement{Name: name, Text: one})
		if err != nil || again != one {
			t.Fatalf("%q of %q becomes %q (%v)", one, text, again, err)
		}
	})
}

// FuzzStartup: the parameters of any start-up packet can be sent on, and say the same then.
func FuzzStartup(f *testing.F) {
	f.Add("options", `-c a.b=1\ 2 --x=y -e`, "application_name", "x")
	f.Add("_pq_.x", "", "replication", "database")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		if n1 == "" || n2 == "" || strings.ContainsRune(n1+v1+n2+v2, 0) {
			return // a start-up packet cannot have it
		}
		s := NewStartup([]wire.Param{{Name: n1, Value: v1}, {Name: n2, Value: v2}})
		s.Replication()
		var names Names
		s.Names(&names)
		moved := s.Moved(nil, nil, nil)
		if _, err := wire.AppendStartup(nil, wire.Version30, moved); err != nil && len(v1)+len(v2) < 1000 {
			t.Fatal(err)
		}
		if twice := NewStartup(moved).Moved(nil, nil, nil); len(twice) != len(moved) {
			t.Fatalf("%q becomes %q", moved, twice)
		}
	})
}
