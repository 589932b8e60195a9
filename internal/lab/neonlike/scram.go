package neonlike

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	mechanism     = "SCRAM-SHA-256"
	mechanismPlus = "SCRAM-SHA-256-PLUS"
)

// Authentication requests (PostgreSQL documentation 55.7).
const (
	authOK           = 0
	authCleartext    = 3
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

var errProof = errors.New("proof does not fit")

// verifier is what a compute keeps of a password.
type verifier struct {
	salt           []byte
	iterations     int
	stored, server []byte
}

// parseVerifier reads pg_authid.rolpassword.
func parseVerifier(s string) (*verifier, error) {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 5 || parts[0] != mechanism {
		return nil, errors.New("password is not kept as " + mechanism)
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return nil, errors.New("malformed " + mechanism + " secret")
	}
	v := &verifier{iterations: n}
	for i, dst := range []*[]byte{&v.salt, &v.stored, &v.server} {
		if *dst, err = base64.StdEncoding.DecodeString(parts[2+i]); err != nil {
			return nil, errors.New("malformed " + mechanism + " secret")
		}
	}
	return v, nil
}

// noVerifier is one that no password matches: for a role that does not exist.
func noVerifier() *verifier {
	v := &verifier{iterations: 4096, salt: make([]byte, 16), stored: make([]byte, sha256.Size), server: make([]byte, sha256.Size)}
	for _, b := range [][]byte{v.salt, v.stored, v.server} {
		_, _ = rand.Read(b) // never fails since Go 1.24
	}
	return v
}

// fits checks a password that came in clear.
func (v *verifier) fits(password string) bool {
	salted, err := pbkdf2.Key(sha256.New, password, v.salt, v.iterations, sha256.Size)
	if err != nil {
		return false
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	return subtle.ConstantTimeCompare(stored[:], v.stored) == 1
}

// exchange asks the client to prove that it knows the password (RFC 5802, RFC 7677).
// errProof says that it does not.
func (v *verifier) exchange(conn io.ReadWriter, binding []byte) error {
	offer := mechanismPlus + "\x00" + mechanism + "\x00\x00"
	if _, err := conn.Write(frame('R', word(authSASL), []byte(offer))); err != nil {
		return err
	}
	body, err := readAnswer(conn)
	if err != nil {
		return err
	}
	chosen, rest, ok := cutZero(body)
	if !ok || len(rest) < 4 || chosen != mechanism && chosen != mechanismPlus {
		return errors.New("malformed SASLInitialResponse")
	}
	first := string(rest[4:])
	flag, rest1, ok1 := strings.Cut(first, ",")
	_, bare, ok2 := strings.Cut(rest1, ",")
	nonce := attribute(bare, "r=")
	plus := chosen == mechanismPlus
	if !ok1 || !ok2 || nonce == "" || plus != (flag == "p=tls-server-end-point") || flag == "y" {
		return errors.New("malformed client-first-message, or one that thinks that no channel can be bound")
	}
	want := []byte(first[:len(first)-len(bare)])
	if plus {
		want = append(want, binding...)
	}
	nonce += rand.Text()
	challenge := fmt.Sprintf("r=%s,s=%s,i=%d", nonce, base64.StdEncoding.EncodeToString(v.salt), v.iterations)
	if _, err := conn.Write(frame('R', word(authSASLContinue), []byte(challenge))); err != nil {
		return err
	}
	if body, err = readAnswer(conn); err != nil {
		return err
	}
	without, proof64, ok := strings.Cut(string(body), ",p=")
	proof, err := base64.StdEncoding.DecodeString(proof64)
	if !ok || err != nil || len(proof) != sha256.Size {
		return errors.New("malformed client-final-message")
	}
	bound, err := base64.StdEncoding.DecodeString(attribute(without, "c="))
	if err != nil || !bytes.Equal(bound, want) || attribute(without, "r=") != nonce {
		return errProof
	}
	message := bare + "," + challenge + "," + without
	key := make([]byte, sha256.Size)
	subtle.XORBytes(key, proof, mac(v.stored, message))
	if stored := sha256.Sum256(key); subtle.ConstantTimeCompare(stored[:], v.stored) != 1 {
		return errProof
	}
	final := "v=" + base64.StdEncoding.EncodeToString(mac(v.server, message))
	_, err = conn.Write(frame('R', word(authSASLFinal), []byte(final)))
	return err
}

// readAnswer reads a message of the kind p, which Neon takes up to a small size.
func readAnswer(r io.Reader) ([]byte, error) {
	typ, body, err := readFrame(r, maxPassword)
	if err == nil && typ != 'p' {
		err = fmt.Errorf("unexpected message %q in an authentication", typ)
	}
	return body, err
}

func attribute(message, key string) string {
	for _, a := range strings.Split(message, ",") {
		if value, ok := strings.CutPrefix(a, key); ok {
			return value
		}
	}
	return ""
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}
