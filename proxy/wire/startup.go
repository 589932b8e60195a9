package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Limits of packets that arrive before a peer is known.
const (
	// MaxStartup is the largest start-up packet in bytes, its length word included
	// (MAX_STARTUP_PACKET_LENGTH of PostgreSQL).
	MaxStartup = 10000
	// MaxCancelKey is the longest cancel key that protocol 3.2 allows, in bytes.
	MaxCancelKey = 256
)

// Protocol versions as the start-up packet carries them.
const (
	Version30 uint32 = 3 << 16
	Version32 uint32 = 3<<16 | 2
)

const (
	codeCancel = 1234<<16 | 5678
	codeSSL    = 1234<<16 | 5679
	codeGSSENC = 1234<<16 | 5680

	tlsHandshakeByte = 0x16 // first byte of a TLS record that carries a handshake
)

// ErrMalformed is wrapped by every error about bytes that break the protocol.
var ErrMalformed = errors.New("malformed message")

// Param is one start-up parameter or run-time setting.
type Param struct{ Name, Value string }

// StartupKind says which of the packets that may open a connection was read.
type StartupKind int

const (
	KindStartup StartupKind = iota + 1
	KindSSL
	KindGSSENC
	KindCancel
	// KindDirectTLS: the peer began a TLS handshake without asking (sslnegotiation=direct).
	KindDirectTLS
)

// Startup is the first packet of a connection.
type Startup struct {
	Kind      StartupKind
	Version   uint32  // KindStartup: as the client asked, also an unknown minor
	Params    []Param // KindStartup: in the order sent, _pq_.* included
	CancelPID uint32  // KindCancel
	CancelKey []byte  // KindCancel: 4 to 256 bytes, own memory

	// Peeked holds the byte that was read to recognise KindDirectTLS. It belongs to the TLS
	// handshake and has to be read again before what follows on the connection.
	Peeked []byte
}

// Get returns the last value of a parameter.
func (s *Startup) Get(name string) (string, bool) {
	for _, p := range slices.Backward(s.Params) {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// Extensions returns the names of the protocol extensions (_pq_.*) that the client asked for.
func (s *Startup) Extensions() []string {
	var names []string
	for _, p := range s.Params {
		if strings.HasPrefix(p.Name, "_pq_.") {
			names = append(names, p.Name)
		}
	}
	return names
}

// VersionError is a request for a major version other than 3.
type VersionError struct{ Version uint32 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", e.Version>>16, e.Version&0xffff)
}

// ReadStartup reads the first packet of a connection and never a byte more: what follows an
// SSLRequest is a TLS handshake and has to be read as such. The length is checked before memory is
// taken. A minor version above 3.2 is returned as it is; the caller answers it with
// AppendNegotiate.
func ReadStartup(r io.Reader) (Startup, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return Startup{}, err
	}
	if head[0] == tlsHandshakeByte {
		return Startup{Kind: KindDirectTLS, Peeked: []byte{tlsHandshakeByte}}, nil
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return Startup{}, fmt.Errorf("read start-up length: %w", noEOF(err))
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 8 || n > MaxStartup {
		return Startup{}, fmt.Errorf("%w: invalid length of startup packet: %d", ErrMalformed, n)
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return Startup{}, fmt.Errorf("read start-up packet: %w", noEOF(err))
	}
	return decodeStartup(body)
}

func decodeStartup(body []byte) (Startup, error) {
	code := binary.BigEndian.Uint32(body)
	rest := body[4:]
	switch code {
	case codeSSL, codeGSSENC:
		if len(rest) != 0 {
			return Startup{}, fmt.Errorf("%w: encryption request of %d bytes", ErrMalformed, len(body)+4)
		}
		if code == codeSSL {
			return Startup{Kind: KindSSL}, nil
		}
		return Startup{Kind: KindGSSENC}, nil
	case codeCancel:
		if len(rest) < 8 || len(rest)-4 > MaxCancelKey {
			return Startup{}, fmt.Errorf("%w: cancel request of %d bytes", ErrMalformed, len(body)+4)
		}
		return Startup{Kind: KindCancel, CancelPID: binary.BigEndian.Uint32(rest), CancelKey: rest[4:]}, nil
	}
	if code>>16 != 3 {
		return Startup{}, &VersionError{Version: code}
	}
	s := Startup{Kind: KindStartup, Version: code}
	for {
		name, tail, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return Startup{}, fmt.Errorf("%w: startup packet without terminator", ErrMalformed)
		}
		if len(name) == 0 {
			if len(tail) != 0 {
				return Startup{}, fmt.Errorf("%w: invalid startup packet layout: expected terminator as last byte", ErrMalformed)
			}
			return s, nil
		}
		value, tail, ok := bytes.Cut(tail, []byte{0})
		if !ok {
			return Startup{}, fmt.Errorf("%w: startup parameter without value", ErrMalformed)
		}
		s.Params = append(s.Params, Param{Name: string(name), Value: string(value)})
		rest = tail
	}
}

// AppendStartup appends a start-up packet. It refuses empty names and names or values that contain
// NUL, since such a value would become further parameters.
func AppendStartup(dst []byte, version uint32, params []Param) ([]byte, error) {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, version)
	for _, p := range params {
		if p.Name == "" || strings.IndexByte(p.Name, 0) >= 0 {
			return dst[:start], fmt.Errorf("startup parameter name %q is empty or contains NUL", p.Name)
		}
		if strings.IndexByte(p.Value, 0) >= 0 {
			return dst[:start], fmt.Errorf("value of startup parameter %q contains NUL", p.Name)
		}
		dst = append(append(dst, p.Name...), 0)
		dst = append(append(dst, p.Value...), 0)
	}
	dst = append(dst, 0)
	n := len(dst) - start
	if n > MaxStartup {
		return dst[:start], fmt.Errorf("startup packet of %d bytes is over the limit of %d", n, MaxStartup)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(n))
	return dst, nil
}

// AppendSSLRequest appends the request to go on in TLS.
func AppendSSLRequest(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, 8)
	return binary.BigEndian.AppendUint32(dst, codeSSL)
}

// AppendCancel appends a CancelRequest. key is 4 bytes for protocol 3.0, up to 256 for 3.2.
func AppendCancel(dst []byte, pid uint32, key []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(key)))
	dst = binary.BigEndian.AppendUint32(dst, codeCancel)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return append(dst, key...)
}

// AppendNegotiate appends NegotiateProtocolVersion: the newest version that is served (Version30 or
// Version32) and the extensions that are not. It goes out before authentication.
func AppendNegotiate(dst []byte, version uint32, unsupported []string) []byte {
	dst, at := begin(dst, 'v')
	dst = binary.BigEndian.AppendUint32(dst, version)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(unsupported)))
	for _, name := range unsupported {
		dst = append(append(dst, text(name)...), 0)
	}
	return end(dst, at)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
