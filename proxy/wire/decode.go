package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgproto3/v2"
)

// The Decode functions take the body of one frame and never panic. Each walks all lengths of the body first and
// refuses trailing bytes. Byte slices in a result alias the body; strings are copies.

// Parse is a decoded Parse message.
type Parse struct {
	Name, Query string
	OIDs        []uint32
}

// DecodeParse decodes a Parse.
func DecodeParse(body []byte) (Parse, error) {
	w := walk{rest: body}
	w.cstring()
	w.cstring()
	w.skip(4 * w.uint16())
	if err := w.done("Parse"); err != nil {
		return Parse{}, err
	}
	var m pgproto3.Parse
	if err := m.Decode(body); err != nil {
		return Parse{}, malformed("Parse")
	}
	return Parse{Name: m.Name, Query: m.Query, OIDs: m.ParameterOIDs}, nil
}

// DecodeParameterStatus decodes a ParameterStatus.
func DecodeParameterStatus(body []byte) (Param, error) {
	w := walk{rest: body}
	p := Param{Name: string(w.cstring()), Value: string(w.cstring())}
	if err := w.done("ParameterStatus"); err != nil {
		return Param{}, err
	}
	return p, nil
}

// DecodeBackendKeyData decodes pid and key. The key aliases the body; it has 4 to 256 bytes.
func DecodeBackendKeyData(body []byte) (pid uint32, key []byte, err error) {
	if len(body) < 8 || len(body)-4 > MaxCancelKey {
		return 0, nil, malformed("BackendKeyData")
	}
	return binary.BigEndian.Uint32(body), body[4:], nil
}

// DecodeError decodes an ErrorResponse. Missing fields stay empty.
func DecodeError(body []byte) (*ServerError, error) {
	w := walk{rest: body}
	for {
		field := w.byte()
		if field == 0 {
			break
		}
		w.cstring()
	}
	if err := w.done("ErrorResponse"); err != nil {
		return nil, err
	}
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return nil, malformed("ErrorResponse")
	}
	return fromResponse(&m), nil
}

// Column is one field of a RowDescription.
type Column struct {
	Name     string
	TypeOID  uint32
	TypeMod  int32
	Format   int16 // 0 text, 1 binary
	TableOID uint32
	Attr     uint16
}

// DecodeRowDescription decodes a RowDescription.
func DecodeRowDescription(body []byte) ([]Column, error) {
	w := walk{rest: body}
	n := w.uint16()
	for range n {
		if w.bad {
			break
		}
		w.cstring()
		w.skip(18)
	}
	if err := w.done("RowDescription"); err != nil {
		return nil, err
	}
	var m pgproto3.RowDescription
	if err := m.Decode(body); err != nil {
		return nil, malformed("RowDescription")
	}
	cols := make([]Column, len(m.Fields))
	for i, f := range m.Fields {
		cols[i] = Column{Name: string(f.Name), TypeOID: f.DataTypeOID, TypeMod: f.TypeModifier, Format: f.Format,
			TableOID: f.TableOID, Attr: f.TableAttributeNumber}
	}
	return cols, nil
}

// DecodeParameterDescription decodes the types of a statement's parameters.
func DecodeParameterDescription(body []byte) ([]uint32, error) {
	w := walk{rest: body}
	n := w.uint16()
	if len(w.rest) != 4*n {
		return nil, malformed("ParameterDescription")
	}
	oids := make([]uint32, n)
	for i := range oids {
		oids[i] = w.uint32()
	}
	if err := w.done("ParameterDescription"); err != nil {
		return nil, err
	}
	return oids, nil
}

// DecodeDataRow appends the values of a row to dst, nil for NULL. The values alias the body.
func DecodeDataRow(dst [][]byte, body []byte) ([][]byte, error) {
	w := walk{rest: body}
	start := len(dst)
	n := w.uint16()
	for range n {
		if w.bad {
			break
		}
		dst = append(dst, w.value())
	}
	if err := w.done("DataRow"); err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// DecodeReadyForQuery returns the transaction status: 'I', 'T' or 'E'.
func DecodeReadyForQuery(body []byte) (byte, error) {
	if len(body) != 1 || body[0] != 'I' && body[0] != 'T' && body[0] != 'E' {
		return 0, malformed("ReadyForQuery")
	}
	return body[0], nil
}

// Negotiation is a decoded NegotiateProtocolVersion.
type Negotiation struct {
	Version     uint32
	Unsupported []string
}

// DecodeNegotiate decodes NegotiateProtocolVersion. A server may give the minor version alone, as PostgreSQL does before 18.
func DecodeNegotiate(body []byte) (Negotiation, error) {
	w := walk{rest: body}
	n := Negotiation{Version: w.uint32()}
	if n.Version>>16 == 0 {
		n.Version |= Version30
	}
	count := w.uint32()
	for i := uint32(0); i < count && !w.bad; i++ {
		n.Unsupported = append(n.Unsupported, string(w.cstring()))
	}
	if err := w.done("NegotiateProtocolVersion"); err != nil {
		return Negotiation{}, err
	}
	return n, nil
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// walk steps over a body. After the first step beyond its end it is bad and yields zeros.
type walk struct {
	rest []byte
	bad  bool
}

func (w *walk) take(n int) []byte {
	if w.bad || n < 0 || n > len(w.rest) {
		w.bad = true
		return nil
	}
	b := w.rest[:n:n]
	w.rest = w.rest[n:]
	return b
}

func (w *walk) skip(n int) { w.take(n) }

func (w *walk) byte() byte {
	if b := w.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (w *walk) uint16() int {
	if b := w.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (w *walk) uint32() uint32 {
	if b := w.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// value steps over a value with a length word; nil is NULL.
func (w *walk) value() []byte {
	n := int32(w.uint32())
	if w.bad || n == -1 {
		return nil
	}
	return w.take(int(n))
}

func (w *walk) cstring() []byte {
	if w.bad {
		return nil
	}
	s, rest, ok := cutNUL(w.rest)
	if !ok {
		w.bad = true
		return nil
	}
	w.rest = rest
	return s
}

func (w *walk) done(what string) error {
	if w.bad || len(w.rest) != 0 {
		return malformed(what)
	}
	return nil
}

func cutNUL(b []byte) (head, tail []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}
