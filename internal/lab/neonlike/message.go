package neonlike

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// maxStartup is the largest first packet in bytes, its length word included.
	maxStartup = 10000
	// maxLogin bounds a message of a compute's login, in bytes.
	maxLogin = 1 << 20
	// maxPassword is the largest password message that Neon takes, in bytes.
	maxPassword = 512
)

// Codes that stand where a start-up packet has its version.
const (
	codeCancel = 1234<<16 | 5678
	codeSSL    = 1234<<16 | 5679
	codeGSSENC = 1234<<16 | 5680
	version30  = 3 << 16
)

// pgError is an error as a client is told it.
type pgError struct{ code, message, hint string }

func (e *pgError) Error() string { return e.message }

// refusal is what Neon's proxy says at a login.
func refusal(format string, args ...any) *pgError {
	return &pgError{code: "XX000", message: fmt.Sprintf(format, args...)}
}

// atLogin writes e as Neon's proxy does: an ERROR without further fields.
func (e *pgError) atLogin() []byte {
	return frame('E', fields("S", "ERROR", "C", e.code, "M", e.message), []byte{0})
}

// inSession writes e as the compute does.
func (e *pgError) inSession() []byte {
	b := fields("S", "ERROR", "V", "ERROR", "C", e.code, "M", e.message)
	if e.hint != "" {
		b = append(b, fields("H", e.hint)...)
	}
	return frame('E', b, []byte{0})
}

func fields(pairs ...string) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		b = append(append(append(b, pairs[i]...), pairs[i+1]...), 0)
	}
	return b
}

// frame writes one message; a type of 0 is left out, as in a first packet.
func frame(typ byte, parts ...[]byte) []byte {
	n := 4
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n+1)
	if typ != 0 {
		b = append(b, typ)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func word(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// readFrame reads exactly one message.
func readFrame(r io.Reader, most int) (typ byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[1:])) - 4
	if n < 0 || n > int64(most) {
		return 0, nil, errors.New("message of a length that is not allowed")
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}

// errorFields reads the fields of an ErrorResponse that a login is told.
func errorFields(body []byte) *pgError {
	e := &pgError{code: "XX000"}
	for len(body) > 1 {
		key := body[0]
		text, rest, ok := cutZero(body[1:])
		if !ok {
			break
		}
		if key == 'M' {
			e.message = text
		}
		body = rest
	}
	return e
}

func cutZero(b []byte) (text string, rest []byte, ok bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", nil, false
}
