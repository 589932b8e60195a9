package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that Crossfade tells apart (PostgreSQL documentation, appendix A).
const (
	CodeConnectionFailure     = "08006"
	CodeProtocolViolation     = "08P01"
	CodeFeatureNotSupported   = "0A000"
	CodeUniqueViolation       = "23505"
	CodeExclusionViolation    = "23P01"
	CodeForeignKeyViolation   = "23503"
	CodeReadOnlyTransaction   = "25006"
	CodeInvalidPassword       = "28P01"
	CodeInvalidAuthorization  = "28000"
	CodeInvalidCatalog        = "3D000"
	CodeInvalidSchema         = "3F000"
	CodeSerializationFailure  = "40001"
	CodeDeadlockDetected      = "40P01"
	CodeInsufficientPrivilege = "42501"
	CodeDependentObjects      = "2BP01"
	CodeSyntaxError           = "42601"
	CodeDuplicateObject       = "42710"
	CodeDuplicateTable        = "42P07"
	CodeDuplicateSchema       = "42P06"
	CodeUndefinedTable        = "42P01"
	CodeUndefinedObject       = "42704"
	CodeUndefinedColumn       = "42703"
	CodeInvalidBytes          = "22021" // character_not_in_repertoire
	CodeUntranslatable        = "22P05" // untranslatable_character
	CodeInvalidParameter      = "22023"
	CodeTooManyConnections    = "53300"
	CodeDiskFull              = "53100"
	CodeObjectInUse           = "55006"
	CodeObjectNotInState      = "55000"
	CodeLockNotAvailable      = "55P03"
	CodeQueryCanceled         = "57014"
	CodeAdminShutdown         = "57P01"
	CodeCrashShutdown         = "57P02"
	CodeCannotConnectNow      = "57P03"
	CodeConfigurationLimit    = "53400"
	CodeWrongObjectType       = "42809"
	CodeUndefinedFunction     = "42883"
	CodeInvalidTable          = "42P16" // invalid_table_definition
	CodeUndefinedFile         = "58P01"
)

// Wrap puts before an error what was being done. It returns nil for nil.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// Code returns the SQLSTATE of the server's error within err, or "".
func Code(err error) string {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pe.Code
	}
	return ""
}

// IsCode reports whether err holds a server's error with one of these SQLSTATEs.
func IsCode(err error, codes ...string) bool {
	c := Code(err)
	return c != "" && slices.Contains(codes, c)
}

// Fixable reports whether err says what an operator can fix while we wait: no room
// on a disk or in a project, or a right that is missing.
func Fixable(err error) bool { return IsCode(err, CodeDiskFull, CodeInsufficientPrivilege) }

// TooManyConnections reports whether err says that there is no session left for the role, in the
// database or on the server; it knows the messages of Neon's proxy too.
func TooManyConnections(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	return pe.Code == CodeTooManyConnections || pe.Code == CodeInternal && ComputeMeant(pe.Message) == CodeTooManyConnections
}

// ConnectionLost reports whether err says that the connection is gone or the server is going away,
// so that a new connection is worth a try. The outcome of a transaction whose COMMIT was on its way
// is unknown then. Neon's proxy says it by its message (NeonSays). The end of a context is no lost
// connection.
func ConnectionLost(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if c := Code(err); c != "" {
		if strings.HasPrefix(c, "08") {
			return true
		}
		switch c {
		case CodeAdminShutdown, CodeCrashShutdown, CodeCannotConnectNow, CodeTooManyConnections, "57P05", "25P03":
			return true
		case CodeInternal:
			var pe *pgconn.PgError
			errors.As(err, &pe)
			advice, known := NeonSays(pe.Message)
			return known && advice != NeonStop
		}
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	if errors.As(err, new(net.Error)) && !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*net.OpError)) {
		return true
	}
	s := err.Error()
	return strings.Contains(s, "conn closed") || strings.Contains(s, "closed the connection") ||
		strings.Contains(s, "connection reset") || strings.Contains(s, "broken pipe")
}

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
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
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
	if cert, ok := errors.AsType[*CertificateError](err); ok {
		return cert.Error() + "; " + cert.remedy()
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
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
