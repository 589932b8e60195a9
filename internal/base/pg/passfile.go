package pg

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// socketDirs are the directories of sockets that programs of PostgreSQL are built with. A line of
// the password file for "localhost" counts for them.
var socketDirs = []string{"", "/var/run/postgresql", "/run/postgresql", "/tmp", "/private/tmp"}

// filePassword looks up a password in the password file (PostgreSQL documentation 34.16). A file
// that others may read is passed over with a warning, as libpq does.
func (s *settings) filePassword(env environment, host, port, database, user string) string {
	file := s.get("passfile")
	if file == "" {
		if file = env.inHome(".pgpass"); file == "" {
			return ""
		}
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
