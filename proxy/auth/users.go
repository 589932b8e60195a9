package auth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
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
	return NewUsers(append(slices.Collect(maps.Values(u.byName)), users...)...)
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

// maxUsersLine bounds one line of a users file, in bytes: four values of the size of a password
// message.
const maxUsersLine = 4*MaxPassword + 64

// ReadUsers reads a users file. It refuses a file that anyone other than its owner may read or
// write. Each line is
//
//	user secret [target_user target_password]
//
// with values in double quotes if they contain blanks, begin with # or are empty. secret is the
// password, or what pg_authid stores for it: a SCRAM verifier or an md5 hash. These need the
// target's credentials too, and the login to the source uses the client's own proof, as long as the
// source stores the same secret. A bare - means the secret that the source itself stores. Errors
// name the line and never quote a value.
func ReadUsers(file string) (*Users, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read users file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read users file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read users file: %s is not a regular file", file)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("read users file: %s is open to others (mode %04o); chmod 600 it", file, perm)
	}
	users, err := ParseUsers(f)
	if err != nil {
		return nil, fmt.Errorf("read users file %s: %w", file, err)
	}
	return users, nil
}

// ParseUsers reads the lines of a users file.
func ParseUsers(r io.Reader) (*Users, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxUsersLine)
	var users []User
	seen := map[string]int{}
	n := 0
	for lines.Scan() {
		n++
		values, err := fields(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(values) == 0 {
			continue
		}
		if len(values) != 2 && len(values) != 4 {
			return nil, fmt.Errorf("line %d: has %d values; write: user secret [target_user target_password]", n, len(values))
		}
		u := User{Name: values[0].text}
		if u.Name == "" {
			return nil, fmt.Errorf("line %d: user name is empty", n)
		}
		if first, ok := seen[u.Name]; ok {
			return nil, fmt.Errorf("line %d: user is already in line %d", n, first)
		}
		seen[u.Name] = n
		own := values[1] == field{text: "-"}
		if !own {
			if u.Secret, err = ParseSecret(values[1].text); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
		}
		if _, plain := u.Secret.Plaintext(); !plain && len(values) != 4 {
			return nil, fmt.Errorf("line %d: only what the password is checked with is given: add target_user and target_password", n)
		}
		if len(values) == 4 {
			u.TargetName, u.TargetPassword = values[2].text, values[3].text
			if u.TargetName == "" || u.TargetPassword == "" {
				return nil, fmt.Errorf("line %d: target user or password is empty", n)
			}
		}
		users = append(users, u)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return NewUsers(users...), nil
}
