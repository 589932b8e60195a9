package proxy

import (
	"errors"
	"fmt"

	"crossfade/internal/pg"
	"crossfade/proxy/wire"
)

// Reasons for which a session ends without anything to say to the client.
var (
	errClientGone = errors.New("client left")
	errServerGone = errors.New("server closed the connection")
	errEnded      = errors.New("session ended")
)

// toldError ends a session whose server has said why it ends: nothing is left to be said.
type toldError struct{ code string } // the SQLSTATE, where it was understood

func (e *toldError) Error() string { return "server ended the session, and has said why " + e.code }

// fatal makes the error with which a session is ended; the caller sends it.
func fatal(code, format string, args ...any) *wire.ServerError {
	return wire.NewFatal(code, fmt.Sprintf(format, args...))
}

// lastWords returns what a client is told when its session ends for that reason,
// nil for nothing.
func lastWords(err error) *wire.ServerError {
	var said *wire.ServerError
	var told *toldError
	switch {
	case err == nil || errors.Is(err, errClientGone) || errors.As(err, &told):
		return nil
	case errors.As(err, &said):
		words := *said
		words.Severity = "FATAL"
		return &words
	case errors.Is(err, errServerGone):
		return fatal(pg.CodeConnectionFailure, "server closed the connection unexpectedly")
	case errors.Is(err, wire.ErrMalformed):
		return fatal(pg.CodeProtocolViolation, "malformed message")
	}
	return fatal(pg.CodeConnectionFailure, "connection to the server was lost")
}
