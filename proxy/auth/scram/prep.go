package scram

import (
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// Prep normalises a password with SASLprep (RFC 4013). As in PostgreSQL, ASCII is taken unchanged,
// and so is a password that is not UTF-8 or that SASLprep refuses.
func Prep(password string) string {
	ascii := true
	for i := range len(password) {
		if password[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii || !utf8.ValidString(password) {
		return password
	}
	out, err := stringprep.SASLprep.Prepare(password)
	if err != nil || out == "" {
		return password
	}
	return out
}
