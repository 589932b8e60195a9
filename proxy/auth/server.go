package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"crossfade/proxy/auth/scram"
	"crossfade/proxy/wire"
)

// MaxPassword is the largest password or SASL message of a client, in bytes. PostgreSQL's own
// limits are of this size; an unauthenticated client gets no more memory than that.
const MaxPassword = 8 << 10

// Store knows the secrets of users. An unknown user is (Secret{}, false, nil). It is called
// concurrently.
type Store interface {
	Secret(ctx context.Context, user string) (Secret, bool, error)
}

// processKey makes the salts of users who are not there as steady as those of users who are, for
// the life of the process.
var processKey = func() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return b
}()

// deriver is shared by all servers: its bound is the bound of the process.
var deriver = scram.NewDeriver(0)

// Server proves who the client is and writes AuthenticationOk. With a channel binding
// SCRAM-SHA-256-PLUS is offered. ctx bounds the wait for a derivation; the caller bounds reads by a
// deadline on conn. What the client did wrong comes back as a *wire.ServerError that has not been
// sent; any other error is of the connection or of the store, and tells the client nothing.
func Server(ctx context.Context, conn io.ReadWriter, c Client, store Store) (Proof, error) {
	secret, known, err := store.Secret(ctx, c.User)
	if err != nil {
		return Proof{}, fmt.Errorf("look up user: %w", err)
	}
	x := exchange{conn: conn, client: &c, secret: secret, known: known}
	proof, err := x.run(ctx)
	if err != nil {
		return Proof{}, err
	}
	if secret.noLogin {
		return Proof{}, wire.NewFatal("28000", fmt.Sprintf("role %q is not permitted to log in", c.User))
	}
	return proof, x.send(wire.AppendAuthOK(nil))
}

// Refused is the answer to a wrong password, and to a user who does not exist.
func Refused(user string) *wire.ServerError {
	return wire.NewFatal("28P01", fmt.Sprintf("password authentication failed for user %q", user))
}

// exchange is one authentication.
type exchange struct {
	conn   io.ReadWriter
	client *Client
	secret Secret
	known  bool
}

// run asks the client for what its secret wants. A password whose time is over fits as little as a
// wrong one.
func (x *exchange) run(ctx context.Context) (Proof, error) {
	done, err := x.client.certified()
	switch {
	case err != nil:
		return Proof{}, err
	case done && !x.known:
		return Proof{}, wire.NewFatal("28000", fmt.Sprintf("role %q does not exist", x.client.User))
	case done || x.known && x.secret.kind == secretTrust:
		return Proof{}, nil
	case x.known && x.secret.kind == secretMD5:
		return x.md5()
	}
	return x.scram(ctx)
}

func (x *exchange) send(b []byte) error {
	if _, err := x.conn.Write(b); err != nil {
		return fmt.Errorf("send authentication request: %w", err)
	}
	return nil
}

// password reads the body of one 'p' message.
func (x *exchange) password() ([]byte, error) {
	f, err := wire.ReadFrame(x.conn, MaxPassword)
	switch {
	case errors.Is(err, wire.ErrMalformed):
		return nil, wire.NewFatal("08P01", "invalid length of password message")
	case err != nil:
		return nil, fmt.Errorf("read password message: %w", err)
	case f.Type != 'p':
		return nil, wire.NewFatal("08P01", fmt.Sprintf("expected password response, got message type %d", f.Type))
	}
	return f.Body, nil
}

func (x *exchange) md5() (Proof, error) {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails since Go 1.24
	if err := x.send(wire.AppendAuthMD5(nil, salt)); err != nil {
		return Proof{}, err
	}
	body, err := x.password()
	if err != nil {
		return Proof{}, err
	}
	got, err := wire.DecodePassword(body)
	if err != nil {
		return Proof{}, wire.NewFatal("08P01", "invalid password packet size")
	}
	if !equal(got, MD5Response(x.secret.md5, salt)) || x.secret.expired() {
		return Proof{}, Refused(x.client.User)
	}
	return Proof{md5: x.secret.md5}, nil
}

// verifier is what the client's proof is checked with. For a user who does not exist, or has no
// password, it is one that nothing fits.
func (x *exchange) verifier(ctx context.Context) (v scram.Verifier, mock bool, err error) {
	switch {
	case !x.known || x.secret.kind == secretNone:
		return scram.Mock(processKey, x.client.User), true, nil
	case x.secret.kind == secretVerifier:
		return x.secret.verifier, x.secret.expired(), nil
	}
	owner := cmp.Or(x.client.Address, x.client.User)
	salt := scram.Salt(processKey, x.client.User)
	keys, err := deriver.Derive(ctx, owner, x.secret.plain, salt, scram.DefaultIterations)
	if err != nil {
		return scram.Verifier{}, false, err
	}
	return keys.Verifier(salt, scram.DefaultIterations), x.secret.expired(), nil
}

func (x *exchange) scram(ctx context.Context) (Proof, error) {
	cfg := scram.ServerConfig{Binding: x.client.Binding}
	var err error
	if cfg.Verifier, cfg.Mock, err = x.verifier(ctx); err != nil {
		return Proof{}, err
	}
	s, first, err := x.choose(cfg)
	if err != nil {
		return Proof{}, err
	}
	challenge, err := s.First(first)
	if err != nil {
		return Proof{}, x.refuse(err)
	}
	if err := x.send(wire.AppendAuthSASLContinue(nil, challenge)); err != nil {
		return Proof{}, err
	}
	body, err := x.password()
	if err != nil {
		return Proof{}, err
	}
	final, err := s.Final(body)
	if err != nil {
		return Proof{}, x.refuse(err)
	}
	if err := x.send(wire.AppendAuthSASLFinal(nil, final)); err != nil {
		return Proof{}, err
	}
	if x.secret.kind != secretVerifier {
		return Proof{}, nil // its verifier is of our own making, no server has it
	}
	return Proof{scram: s.Proven()}, nil
}

// choose offers the mechanisms and returns the exchange of the one that the client chose, with its
// first message.
func (x *exchange) choose(cfg scram.ServerConfig) (*scram.Server, []byte, error) {
	mechanisms := []string{scram.Mechanism}
	if cfg.Binding != nil {
		mechanisms = []string{scram.MechanismPlus, scram.Mechanism}
	}
	if err := x.send(wire.AppendAuthSASL(nil, mechanisms...)); err != nil {
		return nil, nil, err
	}
	body, err := x.password()
	if err != nil {
		return nil, nil, err
	}
	chosen, data, err := wire.DecodeSASLInitial(body)
	switch {
	case err != nil:
		return nil, nil, wire.NewFatal("08P01", "malformed SASLInitialResponse message")
	case chosen == scram.MechanismPlus && cfg.Binding != nil:
		cfg.Plus = true
	case chosen != scram.Mechanism:
		return nil, nil, wire.NewFatal("08P01", "client selected an invalid SASL authentication mechanism")
	}
	s := scram.NewServer(cfg)
	if data == nil { // the mechanism was chosen without its first message: ask for it
		if err := x.send(wire.AppendAuthSASLContinue(nil, nil)); err != nil {
			return nil, nil, err
		}
		if data, err = x.password(); err != nil {
			return nil, nil, err
		}
	}
	return s, data, nil
}

// refuse turns an error of the SCRAM exchange into what the client is told. None of them quotes a
// secret.
func (x *exchange) refuse(err error) error {
	switch {
	case errors.Is(err, scram.ErrRefused):
		return Refused(x.client.User)
	case errors.Is(err, scram.ErrProtocol):
		return wire.NewFatal("08P01", err.Error())
	}
	return wire.NewFatal("28000", err.Error())
}

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
