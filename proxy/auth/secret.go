package auth

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"crossfade/proxy/auth/scram"
)

// Secret is what is known of a user's password: plain text, a SCRAM verifier, an md5 hash, or that
// none is asked; and whether the role may log in, and until when with the password. It may be
// copied and used concurrently.
type Secret struct {
	kind     secretKind
	plain    string
	verifier scram.Verifier
	md5      string // 32 hex digits: md5(password || user)

	until   time.Time // VALID UNTIL, zero for always
	noLogin bool
}

type secretKind uint8

const (
	secretNone secretKind = iota // fits no password
	secretPlain
	secretVerifier
	secretMD5
	secretTrust
)

// ParseSecret reads a secret in the forms of pg_authid.rolpassword; anything else is the password
// itself.
func ParseSecret(s string) (Secret, error) {
	switch {
	case s == "":
		return Secret{}, errors.New("secret is empty")
	case strings.IndexByte(s, 0) >= 0:
		return Secret{}, errors.New("secret contains NUL")
	case strings.HasPrefix(s, scram.Prefix):
		v, err := scram.ParseVerifier(s)
		if err != nil {
			return Secret{}, err
		}
		return Secret{kind: secretVerifier, verifier: v}, nil
	case len(s) == 35 && strings.HasPrefix(s, "md5"):
		if _, err := hex.DecodeString(s[3:]); err == nil && s[3:] == strings.ToLower(s[3:]) {
			return Secret{kind: secretMD5, md5: s[3:]}, nil
		}
	}
	return Plain(s), nil
}

// ParseStored reads pg_authid.rolpassword. What is no verifier and no md5 hash, or is NULL there
// (""), fits no password.
func ParseStored(s string) (Secret, error) {
	if s == "" {
		return Secret{}, nil
	}
	out, err := ParseSecret(s)
	if err == nil && out.kind == secretPlain {
		return Secret{}, errors.New("stored password is neither a SCRAM verifier nor an md5 hash")
	}
	return out, err
}

// Known reports whether there is anything to check a client with.
func (s Secret) Known() bool { return s.kind != secretNone }

// Plain is a password in plain text, whatever it looks like.
func Plain(password string) Secret { return Secret{kind: secretPlain, plain: password} }

// Trust lets the user in without a password.
func Trust() Secret { return Secret{kind: secretTrust} }

// ValidUntil returns the secret with an end of its password's time, VALID UNTIL of the role. Zero
// means no end.
func (s Secret) ValidUntil(t time.Time) Secret { s.until = t; return s }

// NoLogin returns the secret of a role that may not log in, whatever it proves.
func (s Secret) NoLogin() Secret { s.noLogin = true; return s }

// expired reports whether the password's time is over, by the clock of this machine.
func (s Secret) expired() bool { return !s.until.IsZero() && !time.Now().Before(s.until) }

// Plaintext returns the password if it is known: without it the proxy cannot log in elsewhere as
// this user.
func (s Secret) Plaintext() (string, bool) { return s.plain, s.kind == secretPlain }

// Format keeps the secret out of logs and error texts, with every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// MD5Hash is the hash that pg_authid keeps: md5(password || user), without the prefix "md5".
func MD5Hash(user, password string) string {
	sum := md5.Sum([]byte(password + user))
	return hex.EncodeToString(sum[:])
}

// MD5Response is the answer to a request for an md5 password.
func MD5Response(hash string, salt [4]byte) string {
	sum := md5.Sum(append([]byte(hash), salt[:]...))
	return "md5" + hex.EncodeToString(sum[:])
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
