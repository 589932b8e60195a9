package ending

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/proxy/side"
	"crossfade/proxy/wire"
)

// Reasons for which a session ends without anything to say to the client.
var (
	ErrClientGone = errors.New("client left")
	ErrServerGone = errors.New("server closed the connection")
	ErrEnded      = errors.New("session ended")
)

// ToldError ends a session whose server has said why it ends: nothing is left to be said.
type ToldError struct{ Code string } // the SQLSTATE, where it was understood

func (e *ToldError) Error() string { return "server ended the session, and has said why " + e.Code }

// Fatal makes the error with which a session is ended; the caller sends it.
func Fatal(code, format string, args ...any) *wire.ServerError {
	return wire.NewFatal(code, fmt.Sprintf(format, args...))
}

// LastWords returns what a client is told when its session ends for that reason, nil for nothing at
// all.
func LastWords(err error) *wire.ServerError {
	var said *wire.ServerError
	switch {
	case err == nil || errors.Is(err, ErrClientGone) || errors.As(err, new(*ToldError)):
		return nil
	case errors.As(err, &said):
		words := *said
		words.Severity = "FATAL"
		return &words
	case errors.Is(err, ErrServerGone):
		return Fatal(pg.CodeConnectionFailure, "server closed the connection unexpectedly")
	case errors.Is(err, wire.ErrMalformed):
		return Fatal(pg.CodeProtocolViolation, "malformed message")
	}
	return Fatal(pg.CodeConnectionFailure, "connection to the server was lost")
}

var (
	// ErrShutdown ends every session when the proxy does.
	ErrShutdown = Fatal(pg.CodeAdminShutdown, "terminating connection due to administrator command")
	// ErrClosing refuses logins then.
	ErrClosing = Fatal(pg.CodeCannotConnectNow, "the database system is shutting down")
)

const (
	// lingerTimeout and maxLinger bound, in time and in bytes, what is still taken
	// from a client that was told good-bye.
	lingerTimeout = 500 * time.Millisecond
	maxLinger     = 1 << 20
)

// Farewell tells the client why the connection is closed, and waits a moment for the client to
// close it: unread bytes of the client would reset the connection and destroy the message on its
// way.
func Farewell(client net.Conn, words *wire.ServerError) {
	_ = client.SetWriteDeadline(time.Now().Add(side.GoodbyeTimeout))
	if _, err := client.Write(wire.AppendError(nil, words)); err != nil {
		return
	}
	if c, ok := client.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_ = client.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.CopyN(io.Discard, client, maxLinger)
}

// InWords puts into words why a session was ended.
func InWords(cause error) string {
	if told, ok := errors.AsType[*ToldError](cause); ok {
		return fmt.Sprintf("its server ended it (SQLSTATE %s)", told.Code)
	}
	if said, ok := errors.AsType[*wire.ServerError](cause); ok && said.Code == pg.CodeCannotConnectNow {
		return "it was held for longer than the hold limit"
	}
	if words := LastWords(cause); words != nil {
		return fmt.Sprintf("it was ended: %s (SQLSTATE %s)", words.Message, words.Code)
	}
	return "it was ended: " + cause.Error()
}
