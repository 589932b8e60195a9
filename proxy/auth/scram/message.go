package scram

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Names of the mechanisms.
const (
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// bindingHeader is the GS2 header of a client that binds the channel.
const bindingHeader = "p=tls-server-end-point,,"

// ErrProtocol is wrapped by every error about a message that is not SCRAM as PostgreSQL speaks it.
var ErrProtocol = errors.New("malformed SCRAM message")

func protocol(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, a...)...)
}

// attribute takes "k=value" off the front of s, up to a comma or the end.
func attribute(s string, key byte) (value, rest string, err error) {
	if len(s) < 2 || s[0] != key || s[1] != '=' {
		return "", "", protocol("attribute %q expected", key)
	}
	value, rest, _ = strings.Cut(s[2:], ",")
	return value, rest, nil
}

// printable is the alphabet of a nonce.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

func newNonce() string {
	var b [18]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return base64.StdEncoding.EncodeToString(b[:])
}
