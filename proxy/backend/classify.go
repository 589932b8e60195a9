package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/wire"
)

// Class says what to do about a log-in that failed.
type Class int

const (
	Stop    Class = iota // another attempt would fail in the same way: something has to be fixed
	Retry                // soon: the server starts, moves or was cut off
	BackOff              // later: the server is asked too often
	Wait                 // when someone has made room or the operator has acted
)

// advised are the classes of what Neon's proxy says, which puts all that goes wrong into XX000.
var advised = map[pg.NeonAdvice]Class{pg.NeonStop: Stop, pg.NeonRetry: Retry, pg.NeonBackOff: BackOff, pg.NeonWait: Wait}

// codes are the SQLSTATEs of PostgreSQL itself that pass by themselves, or with time.
var codes = map[string]Class{
	"08000": Retry, "08001": Retry, "08003": Retry, "08004": Retry, "08006": Retry,
	"57P01": Retry, "57P02": Retry, "57P03": Retry, "53300": Wait,
}

// Classify says what to do about an error of Dial. It decides by the SQLSTATE, and by the message
// if the server sent XX000, 08P01 or no SQLSTATE. Unknown errors are not retried: retrying for ever
// hides a fault.
func Classify(err error) Class {
	var said *wire.ServerError
	if errors.As(err, &said) {
		if said.Code == pg.CodeInternal || said.Code == pg.CodeProtocolViolation || said.Code == "" {
			advice, _ := pg.NeonSays(said.Message)
			return advised[advice]
		}
		return codes[said.Code]
	}
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	var network net.Error
	switch {
	case errors.As(err, &cert), errors.Is(err, ErrNoPassword), errors.Is(err, scram.ErrOtherVerifier), errors.Is(err, context.Canceled):
		return Stop
	case errors.As(err, &dns) && dns.IsNotFound:
		return Stop
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.DeadlineExceeded), errors.As(err, &network):
		return Retry
	}
	return Stop
}

// PasswordRefused reports whether the server says that the password is wrong, in PostgreSQL's way
// or in that of Neon's proxy.
func PasswordRefused(said *wire.ServerError) bool {
	return said.Code == "28P01" || said.Code == pg.CodeInternal && strings.Contains(said.Message, "password authentication failed for user")
}
