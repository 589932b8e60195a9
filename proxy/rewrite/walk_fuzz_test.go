package rewrite

import (
	"bytes"
	"slices"
	"testing"

	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// path is what the bytes of a session go through.
type path struct {
	tracker  wire.Tracker
	sniffer  state.Sniffer
	seen     seen
	toServer []byte // what has come out
	toClient []byte
}

func newPath() *path {
	p := &path{}
	p.tracker.Follower, p.tracker.Observer = &p.sniffer, &p.seen
	newFilter(&p.tracker)
	return p
}

// pass takes bytes of one side, in pieces.
func (p *path) pass(fromServer bool, pieces ...[]byte) error {
	for _, b := range pieces {
		b = bytes.Clone(b) // they may be changed in place
		if fromServer {
			out, err := p.tracker.Server(b)
			if err != nil {
				return err
			}
			p.toClient = append(p.toClient, out...)
			continue
		}
		out, err := p.tracker.Client(b)
		if err != nil {
			return err
		}
		p.toServer = append(p.toServer, out...)
	}
	return nil
}

// seen is what a Tracker's Observer has been told.
type seen struct{ list []string }

func (s *seen) note(what string, b []byte)  { s.list = append(s.list, what+string(b)) }
func (s *seen) Parse(body []byte)           { s.note("parse ", body) }
func (s *seen) Simple()                     { s.note("simple", nil) }
func (s *seen) ParameterStatus(k, v []byte) { s.note("status "+string(k), v) }
func (s *seen) CommandComplete(tag []byte)  { s.note("complete ", tag) }
func (s *seen) Refused()                    { s.note("refused", nil) }
func (s *seen) equal(other seen) bool       { return slices.Equal(s.list, other.list) }

// cuts divides b into pieces whose lengths the input chooses.
func cuts(b []byte, by []byte) [][]byte {
	var list [][]byte
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if i < len(by) {
			n = min(n, int(by[i])+1)
		}
		list = append(list, b[:n:n])
		b = b[n:]
	}
	return list
}

// FuzzWalk: what a client and a server say to one another is changed alike, and counted alike,
// however their bytes are cut: one frame at a time, and in any pieces, of several frames or of
// parts of them.
func FuzzWalk(f *testing.F) {
	for _, script := range scripts {
		f.Add(slices.Concat(script, tail), []byte{3, 9, 1, 0, 200})
	}
	f.Fuzz(func(t *testing.T, script, by []byte) {
		by = slices.Clone(by) // it is turned below, and the fuzzing engine's own must not be changed
		script = script[:min(len(script), 400)]
		frames, pieces := newPath(), newPath()
		var from server
		var held []byte // of one side, for pieces
		side := false
		compare := func() {
			if err := pieces.pass(side, cuts(held, by)...); err != nil {
				t.Fatalf("in pieces: %v", err)
			}
			held = nil
			if len(by) > 0 {
				by = append(by[1:], by[0])
			}
			if !bytes.Equal(frames.toServer, pieces.toServer) || !bytes.Equal(frames.toClient, pieces.toClient) {
				t.Fatalf("to the server:\n%q\n%q\nto the client:\n%q\n%q", frames.toServer, pieces.toServer, frames.toClient, pieces.toClient)
			}
			for _, p := range []*path{frames, pieces} {
				p.toServer, p.toClient = p.toServer[:0], p.toClient[:0]
			}
			a, b := &frames.tracker, &pieces.tracker
			if a.Reason() != b.Reason() || a.Status() != b.Status() || a.ClientFrames() != b.ClientFrames() {
				t.Fatalf("%q %c %d, in pieces %q %c %d", a.Reason(), a.Status(), a.ClientFrames(), b.Reason(), b.Status(), b.ClientFrames())
			}
			if !frames.seen.equal(pieces.seen) || !slices.Equal(frames.sniffer.Names.List(), pieces.sniffer.Names.List()) {
				t.Fatalf("observed:\n%q\n%q", frames.seen.list, pieces.seen.list)
			}
			frames.seen.list, pieces.seen.list = nil, nil
		}
		say := func(fromServer bool, b []byte) {
			if side != fromServer {
				compare()
				side = fromServer
			}
			held = append(held, b...)
			for len(b) > 0 {
				_, _, rest, ok := wire.Cut(b)
				if !ok {
					t.Fatalf("%q", b)
				}
				sent := len(frames.toServer)
				if err := frames.pass(fromServer, b[:len(b)-len(rest)]); err != nil {
					t.Fatal(err)
				}
				from.in = append(from.in, frames.toServer[sent:]...)
				b = rest
			}
		}
		for ; len(script) > 1; script = script[2:] {
			switch kind, which := script[0], script[1]; kind >> 6 {
			case 3:
				say(true, news(which))
			case 2:
				say(true, from.next(which))
			default:
				say(false, clientFrame(kind, which))
			}
		}
		compare()
	})
}
