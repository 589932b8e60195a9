package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// User is one role of the application and what is known of it on both sides.
type User struct {
	Name   string
	Secret Secret // checked against the client; in plain text it also logs in to the source. None: someone else knows it

	// TargetName and TargetPassword log in to the target; both empty mean that the user keeps the
	// name.
	TargetName, TargetPassword string
}

// Format keeps the password out of logs and error texts.
func (u User) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "user %q", u.Name) }

// Users is a fixed set of users. It is a Store and safe for concurrent use.
type Users struct{ byName map[string]User }

// NewUsers makes a set; of two users with one name the first counts.
func NewUsers(users ...User) *Users {
	u := &Users{byName: make(map[string]User, len(users))}
	for _, one := range users {
		if _, ok := u.byName[one.Name]; !ok {
			u.byName[one.Name] = one
		}
	}
	return u
}

// With returns a set with these users added; users that are in the set already take precedence.
func (u *Users) With(users ...User) *Users {
	all := make([]User, 0, len(u.byName)+len(users))
	for _, one := range u.byName {
		all = append(all, one)
	}
	return NewUsers(append(all, users...)...)
}

// Secret implements Store.
func (u *Users) Secret(_ context.Context, user string) (Secret, bool, error) {
	one, ok := u.byName[user]
	return one.Secret, ok, nil
}

// Source returns the credentials with which the user logs in to the source. ok is false for an
// unknown user and for one of whom only a hash is known.
func (u *Users) Source(user string) (name, password string, ok bool) {
	one, found := u.byName[user]
	if !found {
		return "", "", false
	}
	if one.Secret.kind == secretTrust {
		return one.Name, "", true
	}
	password, ok = one.Secret.Plaintext()
	return one.Name, password, ok
}

// Mapped returns the credentials with which the user logs in to the target, where they
// are given: ok is false for a user who keeps the name.
func (u *Users) Mapped(user string) (name, password string, ok bool) {
	one := u.byName[user]
	return one.TargetName, one.TargetPassword, one.TargetName != ""
}

// TargetPassword returns the password of a role of the target that some user is mapped to.
func (u *Users) TargetPassword(role string) (password string, ok bool) {
	for _, one := range u.byName {
		if one.TargetName == role && role != "" {
			return one.TargetPassword, true
		}
	}
	return "", false
}

// Names returns the users' names, in no order.
func (u *Users) Names() []string {
	return slices.AppendSeq(make([]string, 0, len(u.byName)), maps.Keys(u.byName))
}

// field is one value of a line.
type field struct {
	text   string
	quoted bool
}

// fields splits a line at blanks. A field in double quotes may contain blanks; a doubled quote
// means one.
func fields(line string) ([]field, error) {
	var out []field
	for {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" || line[0] == '#' {
			return out, nil
		}
		if line[0] != '"' {
			n := strings.IndexAny(line, " \t\r")
			if n < 0 {
				n = len(line)
			}
			out, line = append(out, field{text: line[:n]}), line[n:]
			continue
		}
		var b strings.Builder
		rest := line[1:]
		for {
			n := strings.IndexByte(rest, '"')
			if n < 0 {
				return nil, errors.New("a quoted value does not end")
			}
			b.WriteString(rest[:n])
			rest = rest[n+1:]
			if !strings.HasPrefix(rest, `"`) {
				break
			}
			b.WriteByte('"')
			rest = rest[1:]
		}
		if rest != "" && !strings.ContainsAny(rest[:1], " \t\r") {
			return nil, errors.New("a blank is missing after a quoted value")
		}
		out, line = append(out, field{text: b.String(), quoted: true}), rest
	}
}
