package wire

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgproto3/v2"

	"crossfade/internal/base/walk"
)

// The Decode functions take the body of one frame and never panic. Each walks all lengths of the
// body first and refuses trailing bytes; what comes with an error means nothing. Byte slices in a
// result alias the body; strings are copies.

// Parse is a decoded Parse message.
type Parse struct {
	Name, Query string
	OIDs        []uint32
}

// DecodeParse decodes a Parse.
func DecodeParse(body []byte) (Parse, error) {
	w := walk.Bytes{Rest: body}
	w.Text()
	w.Text()
	w.Take(4 * w.Count())
	if err := done(&w, "Parse"); err != nil {
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
	w := walk.Bytes{Rest: body}
	p := Param{Name: string(w.Text()), Value: string(w.Text())}
	return p, done(&w, "ParameterStatus")
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
	w := walk.Bytes{Rest: body}
	for w.Byte() != 0 {
		w.Text()
	}
	if err := done(&w, "ErrorResponse"); err != nil {
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
	w := walk.Bytes{Rest: body}
	for n := w.Count(); n > 0 && !w.Bad; n-- {
		w.Text()
		w.Take(18)
	}
	if err := done(&w, "RowDescription"); err != nil {
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
	w := walk.Bytes{Rest: body}
	n := w.Count()
	if len(w.Rest) != 4*n {
		return nil, malformed("ParameterDescription")
	}
	oids := make([]uint32, n)
	for i := range oids {
		oids[i] = w.Uint32()
	}
	return oids, done(&w, "ParameterDescription")
}

// DecodeDataRow appends the values of a row to dst, nil for NULL. The values alias the body.
func DecodeDataRow(dst [][]byte, body []byte) ([][]byte, error) {
	w := walk.Bytes{Rest: body}
	start := len(dst)
	for n := w.Count(); n > 0 && !w.Bad; n-- {
		v, _ := w.Value()
		dst = append(dst, v)
	}
	if err := done(&w, "DataRow"); err != nil {
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

// DecodeNegotiate decodes NegotiateProtocolVersion. A server may give the minor version alone, as
// PostgreSQL does before 18.
func DecodeNegotiate(body []byte) (Negotiation, error) {
	w := walk.Bytes{Rest: body}
	n := Negotiation{Version: w.Uint32()}
	if n.Version>>16 == 0 {
		n.Version |= Version30
	}
	count := w.Uint32()
	for i := uint32(0); i < count && !w.Bad; i++ {
		n.Unsupported = append(n.Unsupported, string(w.Text()))
	}
	return n, done(&w, "NegotiateProtocolVersion")
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// done refuses a body that was left too early, or not walked to its end.
func done(w *walk.Bytes, what string) error {
	if w.Bad || len(w.Rest) != 0 {
		return malformed(what)
	}
	return nil
}

// AuthKind is the request code of an authentication message.
type AuthKind uint32

const (
	AuthOK           AuthKind = 0
	AuthCleartext    AuthKind = 3
	AuthMD5          AuthKind = 5
	AuthSASL         AuthKind = 10
	AuthSASLContinue AuthKind = 11
	AuthSASLFinal    AuthKind = 12
)

// Auth is a decoded authentication request. Data aliases the body.
type Auth struct {
	Kind       AuthKind
	Salt       [4]byte  // AuthMD5
	Mechanisms []string // AuthSASL
	Data       []byte   // AuthSASLContinue, AuthSASLFinal
}

// DecodeAuth decodes an authentication request ('R'). A kind that is not listed above is returned
// without its data, for the caller to name it.
func DecodeAuth(body []byte) (Auth, error) {
	w := walk.Bytes{Rest: body}
	a := Auth{Kind: AuthKind(w.Uint32())}
	switch a.Kind {
	case AuthOK, AuthCleartext:
	case AuthMD5:
		copy(a.Salt[:], w.Take(4))
	case AuthSASL:
		for name := w.Text(); len(name) > 0; name = w.Text() {
			a.Mechanisms = append(a.Mechanisms, string(name))
		}
	case AuthSASLContinue, AuthSASLFinal:
		a.Data = w.Take(len(w.Rest))
	default:
		w.Take(len(w.Rest))
	}
	return a, done(&w, "authentication request")
}

// DecodePassword decodes a PasswordMessage ('p').
func DecodePassword(body []byte) (string, error) {
	w := walk.Bytes{Rest: body}
	s := string(w.Text())
	return s, done(&w, "PasswordMessage")
}

// DecodeSASLInitial decodes the client's choice of a mechanism ('p') and its first data, nil for
// none. The data aliases the body.
func DecodeSASLInitial(body []byte) (mechanism string, data []byte, err error) {
	w := walk.Bytes{Rest: body}
	mechanism = string(w.Text())
	data, _ = w.Value()
	return mechanism, data, done(&w, "SASLInitialResponse")
}

// ServerError is an ErrorResponse or a NoticeResponse. Every field may be empty: a peer need not
// send any.
type ServerError struct {
	Severity string // not localised where the server says so (9.6 and later)
	Code     string // SQLSTATE
	Message  string
	Detail   string
	Hint     string
	Position int32 // in characters, from 1; 0 for none
	Where    string
	Schema   string
	Table    string
	Column   string
	DataType string
	// Constraint is the name of a violated constraint.
	Constraint string
	File       string
	Line       int32
	Routine    string
}

// Error gives severity, message and SQLSTATE. Detail and hint are left out: they may quote data.
func (e *ServerError) Error() string {
	var b strings.Builder
	if e.Severity != "" {
		b.WriteString(e.Severity + ": ")
	}
	if e.Message == "" {
		b.WriteString("error without a message")
	}
	b.WriteString(e.Message)
	if e.Code != "" {
		b.WriteString(" (SQLSTATE " + e.Code + ")")
	}
	return b.String()
}

// Fatal reports that the server closes the connection after this error.
func (e *ServerError) Fatal() bool { return e.Severity == "FATAL" || e.Severity == "PANIC" }

// SQLState returns the code, so that it can be asked for through an interface.
func (e *ServerError) SQLState() string { return e.Code }

// NewFatal is the error with which a session is ended.
func NewFatal(code, message string) *ServerError {
	return &ServerError{Severity: "FATAL", Code: code, Message: message}
}

func (e *ServerError) response() *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{
		Severity: text(e.Severity), SeverityUnlocalized: text(e.Severity), Code: text(e.Code), Message: text(e.Message),
		Detail: text(e.Detail), Hint: text(e.Hint), Position: e.Position, Where: text(e.Where),
		SchemaName: text(e.Schema), TableName: text(e.Table), ColumnName: text(e.Column), DataTypeName: text(e.DataType),
		ConstraintName: text(e.Constraint), File: text(e.File), Line: e.Line, Routine: text(e.Routine),
	}
}

func fromResponse(r *pgproto3.ErrorResponse) *ServerError {
	return &ServerError{
		Severity: cmp.Or(r.SeverityUnlocalized, r.Severity),
		Code:     r.Code, Message: r.Message, Detail: r.Detail, Hint: r.Hint, Position: r.Position, Where: r.Where,
		Schema: r.SchemaName, Table: r.TableName, Column: r.ColumnName, DataType: r.DataTypeName,
		Constraint: r.ConstraintName, File: r.File, Line: r.Line, Routine: r.Routine,
	}
}
