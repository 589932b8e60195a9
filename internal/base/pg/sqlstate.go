package pg

import (
	"context"
	"errors"
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
	CodeInFailedTransaction   = "25P02"
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
)

// Code returns the SQLSTATE of the server's error within err, or "".
func Code(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

// IsCode reports whether err holds a server's error with one of these SQLSTATEs.
func IsCode(err error, codes ...string) bool {
	c := Code(err)
	if c == "" {
		return false
	}
	return slices.Contains(codes, c)
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
	var ne net.Error
	if errors.As(err, &ne) && !errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var oe *net.OpError
	if errors.As(err, &oe) {
		return true
	}
	s := err.Error()
	return strings.Contains(s, "conn closed") || strings.Contains(s, "closed the connection") ||
		strings.Contains(s, "connection reset") || strings.Contains(s, "broken pipe")
}
