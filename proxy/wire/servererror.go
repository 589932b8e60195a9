package wire

import (
	"cmp"
	"strings"

	"github.com/jackc/pgproto3/v2"
)

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
	r := &pgproto3.ErrorResponse{
		Severity: text(e.Severity), SeverityUnlocalized: text(e.Severity), Code: text(e.Code), Message: text(e.Message),
		Detail: text(e.Detail), Hint: text(e.Hint), Position: e.Position, Where: text(e.Where),
		SchemaName: text(e.Schema), TableName: text(e.Table), ColumnName: text(e.Column), DataTypeName: text(e.DataType),
		ConstraintName: text(e.Constraint), File: text(e.File), Line: e.Line, Routine: text(e.Routine),
	}
	return r
}

func fromResponse(r *pgproto3.ErrorResponse) *ServerError {
	e := &ServerError{
		Severity: r.SeverityUnlocalized, Code: r.Code, Message: r.Message, Detail: r.Detail, Hint: r.Hint,
		Position: r.Position, Where: r.Where, Schema: r.SchemaName, Table: r.TableName, Column: r.ColumnName,
		DataType: r.DataTypeName, Constraint: r.ConstraintName, File: r.File, Line: r.Line, Routine: r.Routine,
	}
	e.Severity = cmp.Or(e.Severity, r.Severity)
	return e
}
