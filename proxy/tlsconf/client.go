package tlsconf

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/jackc/pgx/v5"
)

// Mode is libpq's sslmode.
type Mode int

const (
	Disable Mode = iota
	Allow
	Prefer
	Require
	VerifyCA
	VerifyFull
)

var modeNames = [...]string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return "unknown"
	}
	return modeNames[m]
}

// ChannelBinding is libpq's channel_binding.
type ChannelBinding int

const (
	BindingPrefer ChannelBinding = iota
	BindingDisable
	BindingRequire
)

// Protocol is the ALPN name of PostgreSQL.
const Protocol = "postgresql"

// Client says whether and how to speak TLS to a server. The zero value is "disable". It may be
// copied and used concurrently.
type Client struct {
	Mode    Mode
	Binding ChannelBinding
	Direct  bool        // sslnegotiation=direct: no SSLRequest, the handshake comes first
	Config  *tls.Config // nil for Disable; a template, cloned for each connection
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read root certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read root certificates: %s has no certificate in PEM form", file)
	}
	return pool, nil
}

// FromPgx takes over what pgx made of sslmode, sslrootcert and the other ssl settings of a DSN, for
// its first host.
func FromPgx(c *pgx.ConnConfig) Client {
	var out Client
	switch c.ChannelBinding {
	case "disable":
		out.Binding = BindingDisable
	case "require":
		out.Binding = BindingRequire
	}
	out.Direct = c.SSLNegotiation == "direct"
	var other *tls.Config // of the second try at the same host
	second := false
	for _, f := range c.Fallbacks {
		if f.Host == c.Host && f.Port == c.Port {
			other, second = f.TLSConfig, true
			break
		}
	}
	switch {
	case c.TLSConfig == nil && other == nil:
		return Client{Binding: out.Binding}
	case c.TLSConfig == nil:
		out.Mode, out.Config = Allow, other.Clone()
		if out.Direct { // TLS from the first byte is no second try
			out.Mode = Require
		}
	case second && other == nil:
		out.Mode, out.Config = Prefer, c.TLSConfig.Clone()
	case !c.TLSConfig.InsecureSkipVerify:
		out.Mode, out.Config = VerifyFull, c.TLSConfig.Clone()
	case c.TLSConfig.VerifyPeerCertificate != nil || c.TLSConfig.VerifyConnection != nil:
		out.Mode, out.Config = VerifyCA, c.TLSConfig.Clone()
	default:
		out.Mode, out.Config = Require, c.TLSConfig.Clone()
	}
	return out
}

// Handshake begins TLS on a connection whose server agreed to it (or, with Direct, was not asked).
// host is the server's name where the configuration has none.
func (c Client) Handshake(ctx context.Context, conn net.Conn, host string) (*tls.Conn, error) {
	if c.Config == nil {
		return nil, errors.New("begin TLS: sslmode is disable")
	}
	cfg := c.Config.Clone()
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify { // where it is true, no name is a wish: sslsni=0
		cfg.ServerName = host
	}
	cfg.DynamicRecordSizingDisabled = true // as for clients of ours
	cfg.MinVersion = cmp.Or(cfg.MinVersion, tls.VersionTLS12)
	if c.Direct {
		cfg.NextProtos = []string{Protocol}
	}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("begin TLS: %w", err)
	}
	if c.Direct && t.ConnectionState().NegotiatedProtocol != Protocol {
		return nil, errors.New("begin TLS: the server did not choose the ALPN protocol " + Protocol)
	}
	return t, nil
}
