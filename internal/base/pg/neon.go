package pg

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// neonDomains are where Neon serves databases. Its certificates are signed by a public authority.
var neonDomains = []string{".neon.tech", ".neon.build"}

// IsNeon reports whether a host is one of Neon's, by its name.
func IsNeon(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(neonDomains, func(d string) bool { return strings.HasSuffix(host, d) })
}

// harden raises what is asked of TLS where the host is Neon's: the certificate is verified, the
// host's name too, the name is sent along (Neon finds the endpoint by it), plain text is never
// fallen back to, and the password exchange is bound to the channel. The strings that Neon's
// console shows say sslmode=require, which by itself would believe any certificate. Left as they
// are: sslmode=disable, which Neon refuses itself, verify-ca with roots of one's own, and
// channel_binding=disable.
func harden(cfg *pgx.ConnConfig, mode string) {
	var same *tls.Config // of a later try at the first host: sslmode=allow begins without TLS
	rest := cfg.Fallbacks[:0:0]
	for _, f := range cfg.Fallbacks {
		first := f.Host == cfg.Host && f.Port == cfg.Port
		switch {
		case !IsNeon(f.Host):
		case f.TLSConfig == nil && !only(cfg, f):
			continue
		default:
			f.TLSConfig = verified(f.TLSConfig, f.Host, mode)
			if first && cfg.TLSConfig == nil {
				same = f.TLSConfig
				continue
			}
		}
		rest = append(rest, f)
	}
	cfg.Fallbacks = rest
	if !IsNeon(cfg.Host) {
		return
	}
	if cfg.TLSConfig == nil {
		cfg.TLSConfig = same
	}
	cfg.TLSConfig = verified(cfg.TLSConfig, cfg.Host, mode)
	if cfg.TLSConfig != nil && cfg.ChannelBinding == "prefer" {
		cfg.ChannelBinding = "require"
	}
}

// only reports whether no other try at f's host speaks TLS: the string says sslmode=disable.
func only(cfg *pgx.ConnConfig, f *pgconn.FallbackConfig) bool {
	if cfg.Host == f.Host && cfg.Port == f.Port && cfg.TLSConfig != nil {
		return false
	}
	return !slices.ContainsFunc(cfg.Fallbacks, func(other *pgconn.FallbackConfig) bool {
		return other.Host == f.Host && other.Port == f.Port && other.TLSConfig != nil
	})
}

// verified returns the configuration with verification on.
func verified(t *tls.Config, host, mode string) *tls.Config {
	if t == nil {
		return nil
	}
	t = t.Clone()
	t.ServerName = strings.TrimSuffix(host, ".")
	t.MinVersion = max(t.MinVersion, tls.VersionTLS12)
	if t.VerifyConnection == nil || mode == "verify-full" {
		t.InsecureSkipVerify = false
	}
	return t
}

// CodeInternal is XX000: what Neon's proxy gives for all that goes wrong at a
// login, without further fields, errors of the compute included.
const CodeInternal = "XX000"

// NeonAdvice says what to do about a login that Neon's proxy refused.
type NeonAdvice int

const (
	NeonStop    NeonAdvice = iota // another try brings the same: something has to be fixed
	NeonRetry                     // soon: the compute starts or moves
	NeonBackOff                   // later: it is asked too often
	NeonWait                      // when someone has made room or the operator has acted
)

// neonSayings are the messages of Neon's proxy and of the computes that it serves (source: the
// proxy's code, and its error texts as users met them). The first row whose text is in the message
// counts.
var neonSayings = []struct {
	words  string
	advice NeonAdvice
}{
	{"Couldn't connect to compute node", NeonRetry},
	{"Failed to acquire permit to connect to the database", NeonBackOff},
	{"Too many connections attempts", NeonBackOff},
	{"Too many connections to this endpoint", NeonBackOff},
	{"Too many database connection attempts", NeonBackOff},
	{"Authentication timed out", NeonRetry},
	{"endpoint is temporarily unavailable", NeonWait},
	{"endpoint cannot be found", NeonStop},
	{"endpoint is disabled", NeonStop},
	{"Control plane request failed: ", NeonWait}, // with a reason that is not known here
	{"Control plane request failed", NeonRetry},
	{"remaining connection slots are reserved", NeonWait},
	{"sorry, too many clients already", NeonWait},
	{"too many connections for", NeonWait},
	{"the database system is starting up", NeonRetry},
	{"the database system is not yet accepting connections", NeonRetry},
	{"the database system is not accepting connections", NeonRetry}, // in recovery, without hot standby
	{"the database system is shutting down", NeonRetry},
	{"the database system is in recovery mode", NeonRetry},
	{"terminating connection due to administrator command", NeonRetry},
	{"server conn crashed?", NeonRetry},
	{"query_wait_timeout", NeonRetry},
	{"no more connections allowed (max_client_conn)", NeonWait},
	{"exceeded the limit of concurrently active endpoints", NeonWait},
	{"active endpoints limit exceeded", NeonWait},
	{"exceeded the compute time quota", NeonStop},
	{"data transfer quota", NeonStop},
	{"password authentication failed for user", NeonStop},
	{"Endpoint ID is not specified", NeonStop},
	{"Inconsistent project name", NeonStop},
	{"not allowed to connect to this endpoint", NeonStop},
	{"from a blocked network", NeonStop},
	{"This VPC endpoint id", NeonStop},
	{"unsupported startup parameter", NeonStop},
	{"connection is insecure", NeonStop},
}

// NeonSays reads the message of an error that Neon's proxy returned at a login. known is false for
// messages that are not in the catalogue.
func NeonSays(message string) (advice NeonAdvice, known bool) {
	for _, s := range neonSayings {
		if strings.Contains(message, s.words) {
			return s.advice, true
		}
	}
	return NeonStop, false
}

// neonRefusals are the messages, also of a compute at a login, that say that the role, its
// password, the database or the endpoint's name is wrong: the input has to be changed.
var neonRefusals = []string{"password authentication failed", "Endpoint ID is not specified", "Inconsistent project name", "unsupported startup parameter",
	"connection is insecure", "endpoint cannot be found", "is not permitted to log in", "permission denied for database"}

// NeonRefusesLogin reports whether err is a refusal of Neon's proxy that asks for another role,
// password, database or endpoint, rather than for patience.
func NeonRefusesLogin(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != CodeInternal {
		return false
	}
	return slices.ContainsFunc(neonRefusals, func(words string) bool { return strings.Contains(pe.Message, words) }) ||
		strings.HasPrefix(pe.Message, "database ") && strings.HasSuffix(pe.Message, " does not exist")
}

// computeSayings are messages of PostgreSQL at a login which Neon's proxy passes on without the
// SQLSTATE on which applications rely.
var computeSayings = []struct{ words, code string }{
	{"too many connections for role", CodeTooManyConnections},
	{"too many connections for database", CodeTooManyConnections},
	{"sorry, too many clients already", CodeTooManyConnections},
	{"remaining connection slots are reserved", CodeTooManyConnections},
	{"permission denied for database", CodeInsufficientPrivilege},
	{"is not permitted to log in", CodeInvalidAuthorization},
}

// ComputeMeant returns the SQLSTATE that the compute gave an error at a login before Neon's
// proxy made XX000 of it, "" where that is not known.
func ComputeMeant(message string) (code string) {
	for _, s := range computeSayings {
		if strings.Contains(message, s.words) {
			return s.code
		}
	}
	return ""
}
