package auth

import (
	"fmt"

	"crossfade/proxy/auth/scram"
	"crossfade/proxy/wire"
)

// Client is who asks to be let in, and what its connection has shown already.
type Client struct {
	User    string
	Address string // held during a derivation; clients from one address take turns
	Binding []byte // channel-binding hash of the certificate that the client was shown, nil without TLS

	// Certificate is the common name of the client's certificate, "" where it showed none that was
	// verified.
	Certificate string
	// CertificateOnly asks for a certificate: no password is accepted.
	CertificateOnly bool
}

// Proof is what a client proved to have: enough to log in as this user to a server that keeps the
// identical secret. It is kept in memory only, and never printed.
type Proof struct {
	scram *scram.Proven
	md5   string // hash of pg_authid, 32 hex digits
}

// SCRAM returns the keys of the client's verifier, nil where it proved itself otherwise.
func (p Proof) SCRAM() *scram.Proven { return p.scram }

// MD5 returns the hash of the client's password, "" where it proved itself otherwise.
func (p Proof) MD5() string { return p.md5 }

// IsZero reports whether no login is possible with the proof.
func (p Proof) IsZero() bool { return p.scram == nil && p.md5 == "" }

// Format keeps the proof out of logs and error texts.
func (p Proof) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[proof]")) }

// certified decides by the client's certificate: done means that no password is asked for.
func (c *Client) certified() (done bool, err error) {
	switch {
	case c.Certificate == c.User && c.User != "":
		return true, nil
	case !c.CertificateOnly:
		return false, nil
	case c.Certificate == "":
		return false, wire.NewFatal("28000", "connection requires a valid client certificate")
	}
	return false, wire.NewFatal("28000", fmt.Sprintf("certificate authentication failed for user %q", c.User))
}
