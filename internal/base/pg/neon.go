package pg

import (
	"crypto/tls"
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
