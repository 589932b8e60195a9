package session

import (
	"bytes"
	"encoding/binary"
	"testing"

	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// FuzzFirstUnit: what a cancel request drops is a whole number of frames, the last of
// which ends a unit.
func FuzzFirstUnit(f *testing.F) {
	f.Add(wiretest.AppendQuery(nil, "select 1"))
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
