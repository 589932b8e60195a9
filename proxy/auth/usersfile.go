package auth

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

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
