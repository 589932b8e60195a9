package wire_test

import (
	"bytes"
	"testing"

	"crossfade/proxy/wire"
)

// FuzzTracker feeds both directions, in cuts that the input chooses: data is a list of (direction
// and length, bytes). It must not panic, must give the same answer however the bytes are cut, and
// never call a boundary with a part of a frame about.
func FuzzTracker(f *testing.F) {
	add := func(words ...[]byte) {
		var in []byte
		for i, w := range words {
			for len(w) > 0 {
				n := min(len(w), 0x7f)
				in = append(in, byte(n)|byte(i%2)<<7)
				in = append(in, w[:n]...)
				w = w[n:]
			}
		}
		f.Add(in)
	}
	add(client("Q"), server("T", "D", "C", "Z"))
	add(client("Pu", "B", "E", "S"), server("1", "2", "G"), client("d", "c", "S"), server("C", "Z"))
	add(client("Pu", "B", "E", "S"), server("1", "2", "G"), client("d"), server("E"), client("S", "Q"), server("Z", "C", "Z"))
	add(client("Pu", "Pu", "Q", "S"), server("E", "Z"), client("F", "Cu", "X"), server("S", "N", "A"))
	add(client("Q"), server("H", "d", "c", "C", "Z"), client("c", "f", "y"), server("Z"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var whole, cut wire.Tracker
		whole.Observer, cut.Observer = &notes{}, &notes{}
		for len(in) > 1 {
			n := min(int(in[0]&0x7f), len(in)-1)
			p, fromServer := in[1:1+n], in[0]&0x80 != 0
			in = in[1+n:]
			to, each := whole.Client, cut.Client
			if fromServer {
				to, each = whole.Server, cut.Server
			} else if limit := whole.ClientLimit(p); limit < 0 || limit > len(p) {
				t.Fatalf("limit %d of %d", limit, len(p))
			} else if whole.Boundary() && limit != 0 {
				t.Fatalf("%d bytes may go at a boundary", limit)
			}
			errWhole := fed(to(p))
			var errCut error
			for i := 0; i < len(p) && errCut == nil; i++ {
				errCut = fed(each(p[i : i+1]))
			}
			if (errWhole == nil) != (errCut == nil) {
				t.Fatalf("whole: %v, cut: %v", errWhole, errCut)
			}
			if errWhole != nil {
				return
			}
			if whole.Reason() != cut.Reason() || whole.Status() != cut.Status() || whole.ClientFrames() != cut.ClientFrames() {
				t.Fatalf("whole: %q %c, cut: %q %c", whole.Reason(), whole.Status(), cut.Reason(), cut.Status())
			}
			if whole.Boundary() && (whole.ServerPartial() || whole.Status() != 'I') {
				t.Fatal("boundary inside a frame or a transaction")
			}
		}
	})
}

func FuzzReadStartup(f *testing.F) {
	f.Add(packet(wire.Version30, "user\x00u\x00database\x00d\x00\x00"))
	f.Add(packet(wire.Version32, "_pq_.a\x00\x00\x00"))
	f.Add(wire.AppendSSLRequest(nil))
	f.Add(wire.AppendCancel(nil, 9, []byte("12345678")))
	f.Add([]byte{0x16, 3, 1, 0, 5})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		s, err := wire.ReadStartup(r)
		if err != nil || s.Kind != wire.KindStartup {
			return
		}
		used := len(in) - r.Len()
		again, err := wire.AppendStartup(nil, s.Version, s.Params)
		if err != nil || !bytes.Equal(again, in[:used]) {
			t.Fatalf("%q becomes %q (%v)", in[:used], again, err)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add(frames(wire.AppendFrame(nil, 'S', []byte("a")), wire.AppendReadyForQuery(nil, 'I')))
	f.Add([]byte("d\x7f\xff\xff\xffabc"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewReader(bytes.NewReader(in), 1<<16)
		var out []byte
		for {
			fr, err := r.Next()
			if err != nil {
				break
			}
			out = wire.AppendFrame(out, fr.Type, fr.Body)
		}
		if !bytes.HasPrefix(in, out) {
			t.Fatalf("%q read as %q", in, out)
		}
	})
}

// FuzzDecode gives every decoder the same body: none may panic or run on.
func FuzzDecode(f *testing.F) {
	for _, body := range samples {
		f.Add(body)
	}
	f.Fuzz(func(_ *testing.T, body []byte) {
		for _, decode := range decoders {
			_ = decode(body)
		}
	})
}
