package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"crossfade/proxy/auth/scram"
	"crossfade/proxy/wire"
)

// MaxPassword is the largest password or SASL message of a client, in bytes. PostgreSQL's own limits are of this size; a
// stranger gets no more memory than that.
const MaxPassword = 8 << 10

// Store knows the secrets of users. An unknown user is (Secret{}, false, nil). It is called concurrently.
type Store interface {
	Secret(ctx context.Context, user string) (Secret, bool, error)
}

// processKey makes the salts of users who are not there as steady as those of users who are, for the life of the process.
var processKey = func() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return b
}()

// deriver is shared by all servers: its bound is the bound of the process.
var deriver = scram.NewDeriver(0)

// Server proves who the client is and writes AuthenticationOk. certHash is the channel-binding hash of the certificate
// that this connection showed, nil without TLS: with it SCRAM-SHA-256-PLUS is offered. ctx bounds the wait for a derivation;
// the caller bounds reads by a deadline on conn. What the client did wrong comes back as a *wire.ServerError that has not
// been sent; any other error is of the connection or of the store, and tells the client nothing.
func Server(ctx context.Context, conn io.ReadWriter, user string, store Store, certHash []byte) error {
	secret, known, err := store.Secret(ctx, user)
	if err != nil {
		return fmt.Errorf("look up user: %w", err)
	}
	x := exchange{conn: conn, user: user}
	switch {
	case known && secret.kind == secretTrust:
	case known && secret.kind == secretMD5:
		err = x.md5(secret.md5)
	default:
		err = x.scram(ctx, secret, known && secret.kind != secretNone, certHash)
	}
	if err != nil {
		return err
	}
	return x.send(wire.AppendAuthOK(nil))
}

// Refused is the answer to a wrong password, and to a user who does not exist.
func Refused(user string) *wire.ServerError {
	return wire.NewFatal("28P01", fmt.Sprintf("password authentication failed for user %q", user))
}

type exchange struct {
	conn io.ReadWriter
	user string
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

func (x *exchange) md5(hash string) error {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails since Go 1.24
	if err := x.send(wire.AppendAuthMD5(nil, salt)); err != nil {
		return err
	}
	body, err := x.password()
	if err != nil {
		return err
	}
	got, err := wire.DecodePassword(body)
	if err != nil {
		return wire.NewFatal("08P01", "invalid password packet size")
	}
	if !equal(got, MD5Response(hash, salt)) {
		return Refused(x.user)
	}
	return nil
}

func (x *exchange) scram(ctx context.Context, secret Secret, known bool, certHash []byte) error {
	cfg := scram.ServerConfig{Binding: certHash}
	switch {
	case !known:
		cfg.Mock, cfg.Verifier = true, scram.Mock(processKey, x.user)
	case secret.kind == secretVerifier:
		cfg.Verifier = secret.verifier
	default:
		salt := scram.Salt(processKey, x.user)
		keys, err := deriver.Derive(ctx, secret.plain, salt, scram.DefaultIterations)
		if err != nil {
			return err
		}
		cfg.Verifier = keys.Verifier(salt, scram.DefaultIterations)
	}
	mechanisms := []string{scram.Mechanism}
	if certHash != nil {
		mechanisms = []string{scram.MechanismPlus, scram.Mechanism}
	}
	if err := x.send(wire.AppendAuthSASL(nil, mechanisms...)); err != nil {
		return err
	}
	body, err := x.password()
	if err != nil {
		return err
	}
	chosen, data, err := wire.DecodeSASLInitial(body)
	switch {
	case err != nil:
		return wire.NewFatal("08P01", "malformed SASLInitialResponse message")
	case chosen == scram.MechanismPlus && certHash != nil:
		cfg.Plus = true
	case chosen != scram.Mechanism:
		return wire.NewFatal("08P01", "client selected an invalid SASL authentication mechanism")
	}
	s := scram.NewServer(cfg)
	if data == nil { // the mechanism was chosen without its first message: ask for it
		if err := x.send(wire.AppendAuthSASLContinue(nil, nil)); err != nil {
			return err
		}
		if data, err = x.password(); err != nil {
			return err
		}
	}
	challenge, err := s.First(data)
	if err != nil {
		return x.refuse(err)
	}
	if err := x.send(wire.AppendAuthSASLContinue(nil, challenge)); err != nil {
		return err
	}
	if body, err = x.password(); err != nil {
		return err
	}
	final, err := s.Final(body)
	if err != nil {
		return x.refuse(err)
	}
	return x.send(wire.AppendAuthSASLFinal(nil, final))
}

// refuse turns an error of the SCRAM exchange into what the client is told. None of them quotes a secret.
func (x *exchange) refuse(err error) error {
	switch {
	case errors.Is(err, scram.ErrRefused):
		return Refused(x.user)
	case errors.Is(err, scram.ErrProtocol):
		return wire.NewFatal("08P01", err.Error())
	}
	return wire.NewFatal("28000", err.Error())
}
