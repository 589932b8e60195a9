package rewrite

import (
	"bytes"
	"testing"

	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// FuzzPIDs: notifications are rewritten alike however the server's bytes are cut, and
// nothing else is changed, added or lost.
func FuzzPIDs(f *testing.F) {
	mix := wiretest.AppendNotification(nil, 7, "c", "p")
	mix = wiretest.AppendNotification(wire.AppendReadyForQuery(mix, 'I'), 8, "c", "AAAA")
	f.Add(mix, []byte{1, 3, 9})
	f.Add([]byte("A\x00\x00\x00\x04A\x7f\xff\xff\xffab"), []byte{2})
	f.Add([]byte("D\x00\x00\x00\x09AAAAAA\x00\x00\x00\x01"), []byte{6, 1})
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		translate := func(pid uint32) uint32 { return pid + 1 }
		whole := NewPIDs(translate)
		all := bytes.Clone(in)
		n := whole.Rewrite(all)
		if len(all)-n > notificationHead-1 {
			t.Fatalf("%d bytes are held back", len(all)-n)
		}
		cut := NewPIDs(translate)
		var out, carry []byte
		for rest := in; len(rest) > 0; {
			size := len(rest)
			if len(cuts) > 0 {
				size, cuts = min(size, 1+int(cuts[0])), cuts[1:]
			}
			p := append(carry, rest[:size]...)
			rest = rest[size:]
			n := cut.Rewrite(p)
			out, carry = append(out, p[:n]...), bytes.Clone(p[n:])
			if len(carry) > notificationHead-1 {
				t.Fatalf("%d bytes are held back", len(carry))
			}
		}
		if !bytes.Equal(out, all[:n]) || !bytes.Equal(carry, all[n:]) {
			t.Fatalf("whole %q, cut %q and %q", all, out, carry)
		}
	})
}
