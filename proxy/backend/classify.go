package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"

	"crossfade/proxy/auth/scram"
	"crossfade/proxy/wire"
)

// Class says what to do about a log-in that failed.
type Class int

const (
	Stop    Class = iota // another try brings the same: something has to be mended
	Retry                // soon: the server starts, moves or was cut off
	BackOff              // later: the server is asked too often
	Wait                 // when somebody has made room or the operator has acted
)

func (c Class) String() string { return [...]string{"stop", "retry", "back off", "wait"}[c] }

// sayings are the words of Neon's proxy, which puts all that goes wrong into XX000 without further fields, errors of the
// compute included (reference: the proxy's source, and its error texts as users met them). The first row whose words are
// in the message counts.
var sayings = []struct {
	words string
	class Class
}{
	{"Couldn't connect to compute node", Retry},
	{"Failed to acquire permit to connect to the database", BackOff},
	{"Too many connections attempts", BackOff},
	{"Too many connections to this endpoint", BackOff},
	{"Too many database connection attempts", BackOff},
	{"Authentication timed out", Retry},
	{"endpoint is temporarily unavailable", Wait},
	{"endpoint cannot be found", Stop},
	{"endpoint is disabled", Stop},
	{"Control plane request failed: ", Wait}, // with a reason that is not known here
	{"Control plane request failed", Retry},
	{"remaining connection slots are reserved", Wait},
	{"sorry, too many clients already", Wait},
	{"too many connections for", Wait},
	{"the database system is starting up", Retry},
	{"the database system is shutting down", Retry},
	{"the database system is in recovery mode", Retry},
	{"terminating connection due to administrator command", Retry},
	{"server conn crashed?", Retry},
	{"query_wait_timeout", Retry},
	{"no more connections allowed (max_client_conn)", Wait},
	{"exceeded the limit of concurrently active endpoints", Wait},
	{"active endpoints limit exceeded", Wait},
	{"exceeded the compute time quota", Stop},
	{"data transfer quota", Stop},
	{"password authentication failed for user", Stop},
	{"Endpoint ID is not specified", Stop},
	{"Inconsistent project name", Stop},
	{"not allowed to connect to this endpoint", Stop},
	{"from a blocked network", Stop},
	{"This VPC endpoint id", Stop},
	{"unsupported startup parameter", Stop},
	{"connection is insecure", Stop},
}

// codes are the SQLSTATEs of PostgreSQL itself that pass by themselves, or with time.
var codes = map[string]Class{
	"08000": Retry, "08001": Retry, "08003": Retry, "08004": Retry, "08006": Retry,
	"57P01": Retry, "57P02": Retry, "57P03": Retry, "53300": Wait,
}

// Classify says what to do about an error of Dial. It goes by the SQLSTATE, and by the words where the server gave XX000,
// 08P01 or none. What is not known stops: whoever retries for ever hides a fault.
func Classify(err error) Class {
	var said *wire.ServerError
	if errors.As(err, &said) {
		if said.Code == "XX000" || said.Code == "08P01" || said.Code == "" {
			for _, s := range sayings {
				if strings.Contains(said.Message, s.words) {
					return s.class
				}
			}
			return Stop
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

// PasswordRefused reports whether the server says that the password is wrong, in PostgreSQL's way or in that of Neon's proxy.
func PasswordRefused(said *wire.ServerError) bool {
	return said.Code == "28P01" || said.Code == "XX000" && strings.Contains(said.Message, "password authentication failed for user")
}
