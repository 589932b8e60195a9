package netfault

import (
	"encoding/binary"
	"sync/atomic"
)

// Request codes of the untyped packets (PostgreSQL documentation 55.7).
const (
	codeSSLRequest    = 80877103
	codeGSSENCRequest = 80877104
)

// tlsHandshake is the first byte of a TLS record with a handshake in it.
const tlsHandshake = 0x16

// linkState is what the two directions of a link tell each other.
type linkState struct {
	answers atomic.Int32 // encryption requests whose one-byte answer is due
	opaque  atomic.Bool  // encrypted: no frames can be seen
}

// frames follows the frame boundaries of one direction. It is fed each byte
// once, in order, by one goroutine.
type frames struct {
	dir     Direction
	state   *linkState
	traps   *traps
	untyped bool    // the next packet has no type byte (client, start-up)
	head    [9]byte // the part of a header that has been seen
	have    int     // bytes in head
	left    int     // bytes of the present frame's body that are still to come
	sprung  *armed
	pass    int // bytes that may pass before the cut; WholeFrame: to the frame's end
}

func newFrames(d Direction, st *linkState, tr *traps) *frames {
	return &frames{dir: d, state: st, traps: tr, untyped: d == ToServer}
}

// feed observes p. When a trap springs it returns the number of bytes of p that
// still pass, and the trap; else len(p) and nil.
func (f *frames) feed(p []byte) (int, *armed) {
	for i := 0; i < len(p); {
		if f.state.opaque.Load() {
			return len(p), nil
		}
		if f.sprung != nil && f.pass == 0 {
			return i, f.sprung
		}
		n := 1
		if f.left > 0 {
			n = min(f.left, len(p)-i)
			if f.sprung != nil && f.pass > 0 {
				n = min(n, f.pass)
			}
			f.left -= n
		} else if f.header(p[i]) {
			continue // a trap that lets no byte pass: p[i] is not taken
		}
		i += n
		if f.sprung != nil {
			if f.pass > 0 {
				f.pass -= n
			}
			if f.pass == 0 || f.have == 0 && f.left == 0 {
				return i, f.sprung
			}
		}
	}
	return len(p), nil
}

// header takes one byte of a header. It returns true, without taking the byte,
// when the byte begins a frame of which nothing may pass.
func (f *frames) header(b byte) bool {
	if f.have == 0 {
		if f.dir == ToClient && f.state.answers.Load() > 0 {
			f.state.answers.Add(-1)
			if b == 'S' || b == 'G' {
				f.state.opaque.Store(true)
			}
			return false
		}
		typ := b
		if f.untyped {
			if b == tlsHandshake {
				f.state.opaque.Store(true)
				return false
			}
			typ = 0
		}
		if f.sprung == nil {
			if f.sprung = f.traps.frame(f.dir, typ); f.sprung != nil {
				if f.pass = f.sprung.Within; f.pass == 0 {
					return true
				}
			}
		}
	}
	f.head[f.have] = b
	f.have++
	switch {
	case f.untyped && f.have == 8:
		f.left = max(int(binary.BigEndian.Uint32(f.head[:4]))-8, 0)
		switch binary.BigEndian.Uint32(f.head[4:8]) {
		case codeSSLRequest, codeGSSENCRequest:
			f.state.answers.Add(1)
		default:
			f.untyped = false
		}
		f.have = 0
	case !f.untyped && f.have == 5:
		f.left = max(int(binary.BigEndian.Uint32(f.head[1:5]))-4, 0)
		f.have = 0
	}
	return false
}
