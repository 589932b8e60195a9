package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ConnectError turns a failed login at d into one line that says what is wrong,
// where, and what to do. The cause stays reachable through errors.As.
func ConnectError(d DSN, err error) error {
	return &connectError{where: d.Redacted(), what: explainConnect(d, err), cause: err}
}

type connectError struct {
	where, what string
	cause       error
}

func (e *connectError) Error() string { return "connect to " + e.where + ": " + e.what }
func (e *connectError) Unwrap() error { return e.cause }

func explainConnect(d DSN, err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		said := strings.TrimSpace(pe.Message)
		switch {
		case pe.Code == CodeInvalidPassword || strings.Contains(said, "password authentication failed"):
			return said + "; check the password in the connection string, PGPASSWORD or the password file"
		case pe.Code == CodeInvalidCatalog:
			return said + "; create the database or name another one"
		case pe.Code == CodeInvalidAuthorization:
			return said + "; check the role, and the server's pg_hba.conf"
		case pe.Code == CodeTooManyConnections:
			return said + "; free connections or raise max_connections"
		case pe.Code == CodeCannotConnectNow:
			return said + "; the server is starting or stopping: try again"
		case pe.Code == CodeInternal:
			return explainNeon(said)
		}
		return fmt.Sprintf("%s (SQLSTATE %s)", said, pe.Code)
	}
	var cert *CertificateError
	if errors.As(err, &cert) {
		return cert.Error() + "; " + cert.remedy()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Sprintf("host %q is not known; check its spelling in the connection string", d.Host())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time; check the address, the network and the firewall"
	}
	msg := err.Error()
	switch {
	case strings.Contains(msg, "connection refused"):
		return "nothing listens there; check host and port, and that the server runs"
	case strings.Contains(msg, "no such file or directory"):
		return "no server socket there; check host and port, and that the server runs"
	case strings.Contains(msg, "server refused TLS connection"):
		return "the server offers no TLS; set sslmode=disable or switch TLS on there"
	case strings.Contains(msg, "tls: "), strings.Contains(msg, "x509: "):
		return "TLS handshake: " + lastPart(msg) + "; check sslmode and sslrootcert"
	}
	return lastPart(msg)
}

// explainNeon adds the remedy to an error that Neon's proxy describes only by its message.
func explainNeon(said string) string {
	advice, known := NeonSays(said)
	switch {
	case strings.HasPrefix(said, "database ") && strings.HasSuffix(said, " does not exist"):
		return said + "; create the database or name another one"
	case strings.HasPrefix(said, "role ") && strings.HasSuffix(said, " is not permitted to log in"):
		return said + "; name a role with LOGIN"
	case strings.Contains(said, "connection is insecure"):
		return said + "; Neon serves TLS only"
	case strings.Contains(said, "Endpoint ID is not specified"):
		return "Neon cannot tell the endpoint; name it by its host name, and give the address with hostaddr if need be"
	case strings.Contains(said, "quota"):
		return said + "; look at the project's plan and limits in Neon's console"
	case known && advice == NeonRetry:
		return said + "; the compute is starting or moving: try again"
	case known && advice == NeonBackOff:
		return said + "; wait a minute and try again"
	case known && advice == NeonWait:
		return said + "; free connections, or look at the project in Neon's console"
	}
	return fmt.Sprintf("%s (SQLSTATE %s)", said, CodeInternal)
}

// lastPart keeps the innermost message of a chain, which names no secret.
func lastPart(msg string) string {
	if i := strings.LastIndex(msg, "\n"); i >= 0 {
		msg = msg[i+1:]
	}
	if i := strings.Index(msg, "): "); i >= 0 {
		msg = msg[i+3:]
	}
	return strings.TrimSpace(msg)
}
