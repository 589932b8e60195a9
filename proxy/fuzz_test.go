package proxy

import (
	"bytes"
	"encoding/binary"
	"testing"

	"crossfade/proxy/wire"
)

// FuzzPids: notifications are rewritten alike however the server's bytes are cut, and
// nothing else is changed, added or lost.
func FuzzPids(f *testing.F) {
	mix := wire.AppendNotification(nil, 7, "c", "p")
	mix = wire.AppendNotification(wire.AppendReadyForQuery(mix, 'I'), 8, "c", "AAAA")
	f.Add(mix, []byte{1, 3, 9})
	f.Add([]byte("A\x00\x00\x00\x04A\x7f\xff\xff\xffab"), []byte{2})
	f.Add([]byte("D\x00\x00\x00\x09AAAAAA\x00\x00\x00\x01"), []byte{6, 1})
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		translate := func(pid uint32) uint32 { return pid + 1 }
		whole := rewriter{translate: translate}
		all := bytes.Clone(in)
		n := whole.pids(all)
		if len(all)-n > maxCarry {
			t.Fatalf("%d bytes are held back", len(all)-n)
		}
		cut := rewriter{translate: translate}
		var out, carry []byte
		for rest := in; len(rest) > 0; {
			size := len(rest)
			if len(cuts) > 0 {
				size, cuts = min(size, 1+int(cuts[0])), cuts[1:]
			}
			p := append(carry, rest[:size]...)
			rest = rest[size:]
			n := cut.pids(p)
			out, carry = append(out, p[:n]...), bytes.Clone(p[n:])
			if len(carry) > maxCarry {
				t.Fatalf("%d bytes are held back", len(carry))
			}
		}
		if !bytes.Equal(out, all[:n]) || !bytes.Equal(carry, all[n:]) {
			t.Fatalf("whole %q, cut %q and %q", all, out, carry)
		}
	})
}

// FuzzFirstUnit: what a cancel request drops is a whole number of frames, the last of
// which ends a unit.
func FuzzFirstUnit(f *testing.F) {
	f.Add(wire.AppendQuery(nil, "select 1"))
	f.Add(wire.AppendSync(wire.AppendExecute(wire.AppendParse(nil, "", "select 1", nil), "", 0)))
	f.Add([]byte("Q\x00\x00\x00\x03"))
	f.Fuzz(func(t *testing.T, in []byte) {
		n := firstUnit(in)
		if n == 0 {
			return
		}
		at, last := 0, byte(0)
		for at < n {
			last = in[at]
			at += 1 + int(binary.BigEndian.Uint32(in[at+1:]))
		}
		if at != n || !bytes.Contains([]byte("QFS"), []byte{last}) {
			t.Fatalf("%d of %q", n, in)
		}
	})
}

// FuzzLastWords: the search for a server's last words never fails.
func FuzzLastWords(f *testing.F) {
	f.Add(wire.AppendError(nil, wire.NewFatal("57P01", "bye")))
	f.Fuzz(func(t *testing.T, in []byte) {
		if saysFatal(in) && !bytes.Contains(in, []byte("FATAL\x00")) && !bytes.Contains(in, []byte("PANIC\x00")) {
			t.Fatalf("%q", in)
		}
	})
}
