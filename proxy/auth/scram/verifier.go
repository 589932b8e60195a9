package scram

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Prefix begins a verifier in pg_authid.rolpassword.
const Prefix = "SCRAM-SHA-256$"

// saltSize is what PostgreSQL uses, in bytes.
const saltSize = 16

// Verifier is what a server keeps of a password: enough to check it, not enough to log in with it
// elsewhere.
type Verifier struct {
	Iterations int
	Salt       []byte
	StoredKey  [sha256.Size]byte
	ServerKey  [sha256.Size]byte
}

// ParseVerifier reads SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>. Errors do not
// quote it.
func ParseVerifier(s string) (Verifier, error) {
	rest, ok := strings.CutPrefix(s, Prefix)
	if !ok {
		return Verifier{}, errors.New("SCRAM verifier does not begin with " + Prefix)
	}
	head, keys, ok1 := strings.Cut(rest, "$")
	count, salt64, ok2 := strings.Cut(head, ":")
	stored64, server64, ok3 := strings.Cut(keys, ":")
	if !ok1 || !ok2 || !ok3 {
		return Verifier{}, errors.New("SCRAM verifier is not of the form SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")
	}
	n, err := strconv.ParseInt(count, 10, 32)
	if err != nil || n < 1 {
		return Verifier{}, errors.New("SCRAM verifier has no valid iteration count")
	}
	if n > MaxIterations {
		return Verifier{}, fmt.Errorf("SCRAM verifier asks for %d iterations, the limit is %d", n, MaxIterations)
	}
	v := Verifier{Iterations: int(n)}
	if v.Salt, err = base64.StdEncoding.DecodeString(salt64); err != nil || len(v.Salt) == 0 {
		return Verifier{}, errors.New("SCRAM verifier has no valid salt")
	}
	if !decodeKey(&v.StoredKey, stored64) || !decodeKey(&v.ServerKey, server64) {
		return Verifier{}, errors.New("SCRAM verifier has no valid keys")
	}
	return v, nil
}

func decodeKey(dst *[sha256.Size]byte, s string) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	return err == nil && copy(dst[:], b) == len(dst) && len(b) == len(dst)
}

// Encode is the form that ALTER ROLE … PASSWORD takes.
func (v Verifier) Encode() string {
	e := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s%d:%s$%s:%s", Prefix, v.Iterations, e(v.Salt), e(v.StoredKey[:]), e(v.ServerKey[:]))
}

// Format keeps the keys out of logs and error texts.
func (v Verifier) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[SCRAM verifier]")) }

// Verifier makes a verifier of keys that were derived with this salt and count.
func (k Keys) Verifier(salt []byte, iterations int) Verifier {
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: k.StoredKey, ServerKey: k.ServerKey}
}

// Format keeps the keys out of logs and error texts.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[SCRAM keys]")) }

// NewSalt returns a random salt.
func NewSalt() []byte {
	b := make([]byte, saltSize)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return b
}

// Salt returns the salt for a user whose salt must not change from one log-in to the next: real or
// not, users look alike.
func Salt(key []byte, user string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(user))
	return h.Sum(nil)[:saltSize]
}

// Mock is a verifier that no password fits, for a user who does not exist.
func Mock(key []byte, user string) Verifier {
	v := Verifier{Iterations: DefaultIterations, Salt: Salt(key, user)}
	_, _ = rand.Read(v.StoredKey[:]) // never fails since Go 1.24
	_, _ = rand.Read(v.ServerKey[:])
	return v
}
