package pg

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// pair is one parameter of a connection string.
type pair struct{ key, value string }

// joinPairs writes parameters in key=value form. The last one of a name counts.
func joinPairs(pairs []pair, leaveOut map[string]bool) string {
	last := map[string]string{}
	var order []string
	for _, p := range pairs {
		if _, seen := last[p.key]; !seen {
			order = append(order, p.key)
		}
		last[p.key] = p.value
	}
	var b strings.Builder
	for _, k := range order {
		if leaveOut[k] {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		v := strings.ReplaceAll(strings.ReplaceAll(last[k], `\`, `\\`), `'`, `\'`)
		b.WriteString(k + "='" + v + "'")
	}
	return b.String()
}

// conninfoPairs splits a connection string, URI or key=value, into its parameters in order, by
// libpq's rules (PostgreSQL documentation 34.1.1). What libpq refuses is refused, with a message
// that contains no part of the string that could be a secret.
func conninfoPairs(s string) ([]pair, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, errors.New("it holds a NUL byte")
	}
	if rest, ok := cutScheme(s); ok {
		return uriPairs(rest)
	}
	return keywordPairs(s)
}

func cutScheme(s string) (rest string, ok bool) {
	for _, scheme := range []string{"postgresql://", "postgres://"} {
		if rest, ok = strings.CutPrefix(s, scheme); ok {
			return rest, true
		}
	}
	return "", false
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// keywordPairs reads the form key=value. A key ends at "=" or at white space, which only "="
// may follow; a value is a run without white space or stands between single quotes, and in
// both a backslash takes the next character as it is.
func keywordPairs(s string) ([]pair, error) {
	var pairs []pair
	i := 0
	skip := func() {
		for i < len(s) && isSpace(s[i]) {
			i++
		}
	}
	for skip(); i < len(s); skip() {
		begin := i
		for i < len(s) && s[i] != '=' && !isSpace(s[i]) {
			i++
		}
		key := s[begin:i]
		skip()
		if i == len(s) || s[i] != '=' {
			return nil, keywordError(s, len(pairs))
		}
		i++
		skip()
		var v strings.Builder
		quoted := i < len(s) && s[i] == '\''
		if quoted {
			i++
		}
		ended := !quoted
		for ; i < len(s); i++ {
			c := s[i]
			if quoted && c == '\'' {
				ended = true
				i++
				break
			}
			if !quoted && isSpace(c) {
				break
			}
			if c == '\\' {
				if i++; i == len(s) {
					break
				}
				c = s[i]
			}
			v.WriteByte(c)
		}
		if !ended {
			return nil, fmt.Errorf("the quoted value of parameter %d has no end: close it with '", len(pairs)+1)
		}
		pairs = append(pairs, pair{key, v.String()})
	}
	return pairs, nil
}

// keywordError is for a word without "=". It is not shown, since it may be the rest of a password.
func keywordError(s string, before int) error {
	if before == 0 && !strings.Contains(s, "=") {
		return errors.New(`it has no "=" and is no URI`)
	}
	return fmt.Errorf(`parameter %d has no "=" after its name; a value with a space must stand in quotes, as in password='two words'`, before+1)
}

// uriPairs reads what follows the scheme of a URI:
// [user[:password]@][host[:port][,…]][/database][?key=value[&…]]. The part before the first
// slash is the authority even where it holds a question mark, as far as an "@" is in it.
func uriPairs(s string) ([]pair, error) {
	var pairs []pair
	add := func(key, raw string) error {
		if raw == "" {
			return nil
		}
		v, err := percentDecode(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		pairs = append(pairs, pair{key, v})
		return nil
	}
	authority, _, _ := strings.Cut(s, "/")
	if at := strings.IndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		if err := errors.Join(add("user", user), add("password", password)); err != nil {
			return nil, err
		}
		s = s[at+1:]
	}
	hosts, ports, rest, err := uriHosts(s)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(add("host", hosts), add("port", ports)); err != nil {
		return nil, err
	}
	database, query, _ := strings.Cut(rest, "?")
	if err := add("dbname", strings.TrimPrefix(database, "/")); err != nil {
		return nil, err
	}
	more, err := queryPairs(query)
	return append(pairs, more...), err
}

// uriHosts reads the list of hosts and ports, and returns what follows it, from "/" or "?".
func uriHosts(s string) (hosts, ports, rest string, err error) {
	for {
		var host, port string
		if strings.HasPrefix(s, "[") {
			end := strings.IndexByte(s, ']')
			switch {
			case end < 0:
				return "", "", "", errors.New(`an IPv6 address in it has no "]"`)
			case end == 1:
				return "", "", "", errors.New("an IPv6 address in it is empty")
			}
			host, s = s[1:end], s[end+1:]
			if s != "" && !strings.ContainsRune(":/?,", rune(s[0])) {
				return "", "", "", errors.New(`after the "]" of an IPv6 address only ":", "/", "?" or "," may follow`)
			}
		} else {
			host, s = cutAny(s, ":/?,")
		}
		if strings.HasPrefix(s, ":") {
			port, s = cutAny(s[1:], "/?,")
		}
		hosts, ports = hosts+host, ports+port
		if !strings.HasPrefix(s, ",") {
			return hosts, ports, s, nil
		}
		hosts, ports, s = hosts+",", ports+",", s[1:]
	}
}

func cutAny(s, ends string) (before, rest string) {
	if i := strings.IndexAny(s, ends); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// queryPairs reads the parameters of a URI. As with libpq, ssl=true means sslmode=require, as it
// does for JDBC.
func queryPairs(s string) ([]pair, error) {
	var pairs []pair
	for s != "" {
		var one string
		one, s, _ = strings.Cut(s, "&")
		k, v, there := strings.Cut(one, "=")
		k, kerr := percentDecode(k)
		v, verr := percentDecode(v)
		switch {
		case kerr != nil:
			return nil, fmt.Errorf("the name of a parameter: %w", kerr)
		case !there:
			return nil, fmt.Errorf(`parameter %s has no "="`, shown(k))
		case strings.Contains(one[strings.Index(one, "=")+1:], "="):
			return nil, fmt.Errorf(`parameter %s has a second "="; write %%3D for one that belongs to the value`, shown(k))
		case verr != nil:
			return nil, fmt.Errorf("parameter %s: %w", shown(k), verr)
		case k == "ssl" && v == "true":
			k, v = "sslmode", "require"
		}
		pairs = append(pairs, pair{k, v})
	}
	return pairs, nil
}

// percentDecode takes the escapes out of a part of a URI.
func percentDecode(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		c, err := hex.DecodeString(s[i+1 : min(i+3, len(s))])
		if err != nil || len(c) != 1 {
			return "", errors.New(`a "%" in it begins no escape of two hexadecimal digits; write %25 for "%"`)
		}
		if c[0] == 0 {
			return "", errors.New("the escape %00 is forbidden")
		}
		b.WriteByte(c[0])
		i += 2
	}
	return b.String(), nil
}

// shown is the name of a parameter as an error may show it: what is no name is not shown.
func shown(name string) string {
	if name == "" || len(name) > 40 || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-'
	}) {
		return "(not shown)"
	}
	return `"` + name + `"`
}
