package pg

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// environment is where a connection string is read. The zero value has nothing in it.
type environment struct {
	variable func(name string) string
	home     string // "" where there is none
}

func ownEnvironment() environment {
	home, _ := os.UserHomeDir() // without one, nothing is looked for there
	return environment{variable: os.Getenv, home: home}
}

func (e environment) get(name string) string {
	if e.variable == nil {
		return ""
	}
	return e.variable(name)
}

// inHome returns the path of a file in the home directory, "" where there is no such file.
func (e environment) inHome(names ...string) string {
	if e.home == "" {
		return ""
	}
	path := filepath.Join(append([]string{e.home}, names...)...)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// setting is the value of a parameter and where it is from.
type setting struct {
	value string
	from  string // the variable or service file, "" for the connection string
}

// settings are the values of all parameters that are given, and what there is to say about
// what was left out.
type settings struct {
	of       map[string]setting
	warnings []string
}

func (s *settings) get(name string) string { return s.of[name].value }

// gather brings together what the string, the service and the environment say, each before the
// next, as libpq does, and refuses what cannot be honoured.
func gather(s string, env environment) (*settings, error) {
	out := &settings{of: map[string]setting{}}
	pairs, err := conninfoPairs(s)
	if err != nil {
		return nil, err
	}
	_, uri := cutScheme(s)
	password := false
	for _, p := range pairs {
		if p.key == "requiressl" { // of old, as libpq reads it
			mode := "prefer"
			if strings.HasPrefix(p.value, "1") {
				mode = "require"
			}
			p = pair{"sslmode", mode}
		}
		if !known(p.key) {
			return nil, unknownParameter(p.key, password && !uri)
		}
		password = password || strings.Contains(p.key, "password")
		out.of[p.key] = setting{value: p.value}
	}
	if err := out.addService(env); err != nil {
		return nil, err
	}
	for _, p := range parameters {
		if _, given := out.of[p.name]; given || p.env == "" {
			continue
		}
		if v := env.get(p.env); v != "" {
			out.of[p.name] = setting{value: v, from: p.env}
		}
	}
	if _, given := out.of["sslmode"]; !given && strings.HasPrefix(env.get("PGREQUIRESSL"), "1") {
		out.of["sslmode"] = setting{value: "require", from: "PGREQUIRESSL"}
	}
	if err := out.check(); err != nil {
		return nil, err
	}
	for _, name := range sessionVariables {
		if env.get(name) != "" {
			out.warn("%s has no effect: sessions of ours have their own setting, so that values travel unchanged", name)
		}
	}
	return out, nil
}

func (s *settings) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// check refuses values in the order of the table, so that the first error is always the same one.
func (s *settings) check() error {
	for _, p := range parameters {
		v, given := s.of[p.name]
		if !given || p.check == nil {
			continue
		}
		err := p.check(v.value)
		switch {
		case err == nil:
		case v.from == "":
			return fmt.Errorf("%s: %w", p.name, err)
		case p.mild && strings.HasPrefix(v.from, "PG"):
			s.warn("%s has no effect: %v", v.from, err)
			delete(s.of, p.name)
		default:
			return fmt.Errorf("%s, from %s: %w", p.name, v.from, err)
		}
	}
	if s.get("sslrootcert") == "system" {
		if v, given := s.of["sslmode"]; given && v.value != "verify-full" {
			return fmt.Errorf("sslmode=%s is too weak for sslrootcert=system, with which a certificate of any public authority is accepted: write verify-full, or leave sslmode out", v.value)
		}
		s.of["sslmode"] = setting{value: "verify-full"}
	}
	if s.get("sslnegotiation") == "direct" {
		if m := s.get("sslmode"); m == "" || m == "disable" || m == "allow" || m == "prefer" {
			return fmt.Errorf("sslnegotiation=direct needs an sslmode of require, verify-ca or verify-full, which speak TLS in any case")
		}
	}
	low, lowGiven := tlsVersion(s.get("ssl_min_protocol_version"))
	if high, ok := tlsVersion(s.get("ssl_max_protocol_version")); ok && lowGiven && low > high {
		return errors.New("ssl_min_protocol_version is above ssl_max_protocol_version")
	}
	return nil
}

// addService adds what a service file says under the service's name, where the string does not.
func (s *settings) addService(env environment) error {
	name := s.get("service")
	if _, given := s.of["service"]; !given {
		if name = env.get("PGSERVICE"); name != "" {
			s.of["service"] = setting{value: name, from: "PGSERVICE"}
		}
	}
	if name == "" {
		return nil
	}
	var files []string
	given := cmp.Or(s.get("servicefile"), env.get("PGSERVICEFILE"))
	switch {
	case given != "":
		if _, err := os.Stat(given); err != nil {
			return fmt.Errorf("service file %q: %w", given, withoutPath(err))
		}
		files = append(files, given)
	case env.home != "":
		files = append(files, filepath.Join(env.home, ".pg_service.conf"))
	}
	dir := cmp.Or(env.get("PGSYSCONFDIR"), defaultConfigDir)
	files = append(files, filepath.Join(dir, "pg_service.conf"))
	for _, file := range files {
		found, err := s.readService(file, name)
		if err != nil || found {
			s.of["servicefile"] = setting{value: file}
			return err
		}
	}
	return fmt.Errorf("definition of service %q not found; it is looked for in %s", name, strings.Join(files, ", "))
}

// defaultConfigDir is where Debian's libpq looks for pg_service.conf, after the variable
// PGSYSCONFDIR.
const defaultConfigDir = "/etc/postgresql-common"

// readService reads a service's lines, as far as there are any.
func (s *settings) readService(file, name string) (found bool, err error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("service file %q: %w", file, withoutPath(err))
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimFunc(lines.Text(), func(r rune) bool { return r < 128 && isSpace(byte(r)) })
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			if found {
				return true, nil
			}
			found = strings.HasPrefix(line, "["+name+"]")
			continue
		}
		if !found {
			continue
		}
		key, value, there := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "ldap"):
			return true, fmt.Errorf("service file %q, line %d: services are not looked up by LDAP: write what the directory says", file, n)
		case !there:
			return true, fmt.Errorf(`service file %q, line %d: it has no "="`, file, n)
		case key == "service" || key == "servicefile":
			return true, fmt.Errorf("service file %q, line %d: a service cannot name another one", file, n)
		case !known(key):
			return true, fmt.Errorf("service file %q, line %d: %w", file, n, unknownParameter(key, false))
		}
		if _, given := s.of[key]; !given {
			s.of[key] = setting{value: value, from: fmt.Sprintf("service file %q, line %d", file, n)}
		}
	}
	return found, lines.Err()
}

// withoutPath keeps what an error of a file says after its name.
func withoutPath(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

// socketDirs are the directories of sockets that programs of PostgreSQL are built with. A line of
// the password file for "localhost" counts for them.
var socketDirs = []string{"", "/var/run/postgresql", "/run/postgresql", "/tmp", "/private/tmp"}

// filePassword looks up a password in the password file (PostgreSQL documentation 34.16). A file
// that others may read is passed over with a warning, as libpq does.
func (s *settings) filePassword(env environment, host, port, database, user string) string {
	file := cmp.Or(s.get("passfile"), env.inHome(".pgpass"))
	if file == "" {
		return ""
	}
	info, err := os.Stat(file)
	switch {
	case os.IsNotExist(err):
		if s.get("passfile") != "" {
			s.warn("password file %q does not exist", file)
		}
		return ""
	case err != nil:
		s.warn("password file %q cannot be read: %v", file, withoutPath(err))
		return ""
	case !info.Mode().IsRegular():
		s.warn("password file %q is not a plain file, and is not used", file)
		return ""
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		s.warn("password file %q has group or world access, and is not used: chmod 0600 %s", file, shellWord(file))
		return ""
	}
	f, err := os.Open(file)
	if err != nil {
		s.warn("password file %q cannot be read: %v", file, withoutPath(err))
		return ""
	}
	defer func() { _ = f.Close() }()
	hosts := []string{host}
	if slices.Contains(socketDirs, filepath.Clean("/"+host)) || host == "" {
		hosts = append(hosts, "localhost")
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := passFields(line)
		if len(fields) < 5 {
			continue
		}
		if slices.ContainsFunc(hosts, func(h string) bool { return matches(fields[0], h) }) &&
			matches(fields[1], port) && matches(fields[2], database) && matches(fields[3], user) {
			return fields[4].text
		}
	}
	return ""
}

// passField is a field of a line; any says that it is an asterisk.
type passField struct {
	text string
	any  bool
}

func matches(f passField, value string) bool { return f.any || f.text == value }

// passFields cuts a line at its colons. A backslash takes the next character as it is. What
// comes after a fourth colon is the password, up to the next colon.
func passFields(line string) []passField {
	var fields []passField
	var b strings.Builder
	raw := 0
	for i := 0; i <= len(line); i++ {
		if i == len(line) || line[i] == ':' {
			fields = append(fields, passField{text: b.String(), any: line[raw:i] == "*"})
			b.Reset()
			raw = i + 1
			continue
		}
		if line[i] == '\\' && i+1 < len(line) {
			i++
		}
		b.WriteByte(line[i])
	}
	return fields
}

// shellWord quotes a path for a shell where it needs that.
func shellWord(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+", r)
	}) {
		return fmt.Sprintf("'%s'", strings.ReplaceAll(s, "'", `'\''`))
	}
	return s
}
