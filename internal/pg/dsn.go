package pg

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DSN is a parsed connection string of libpq, URI or key=value, with the PG*
// variables and the password file taken in (PostgreSQL documentation 34.1.1).
// The zero value names nothing. A DSN is immutable and may be shared.
type DSN struct {
	raw  string // as given, the password included
	cfg  *pgx.ConnConfig
	addr string // where the first host is, if hostaddr says so
}

// ParseDSN reads a connection string. Its errors never hold the password.
func ParseDSN(s string) (DSN, error) {
	if strings.TrimSpace(s) == "" {
		return DSN{}, errors.New("connection string is empty: give one such as postgresql://user@host:5432/database")
	}
	cfg, hostaddr, err := parseDriver(s)
	if err == nil && hostaddr != "" && !namesHost(s) { // libpq then takes the address for the name
		pairs, _ := conninfoPairs(s) // read by namesHost already
		s = joinPairs(append(pairs, pair{"host", hostaddr}), nil)
		cfg, hostaddr, err = parseDriver(s)
	}
	if err != nil {
		return DSN{}, fmt.Errorf("connection string %s cannot be read: %s; write postgresql://user@host:5432/database or key=value pairs",
			redact(s), parseReason(err))
	}
	if cfg.User == "" || cfg.Database == "" {
		if cfg.Database == "" {
			cfg.Database = cfg.User
		}
		if cfg.User == "" {
			return DSN{}, fmt.Errorf("connection string %s names no user", redact(s))
		}
	}
	var addr string
	if hostaddr != "" {
		if addr, err = places(cfg, hostaddr); err != nil {
			return DSN{}, fmt.Errorf("connection string %s cannot be read: %w", redact(s), err)
		}
	}
	harden(cfg)
	return DSN{raw: s, cfg: cfg, addr: addr}, nil
}

// parseReason takes the part of pgx's message that cannot hold a secret.
func parseReason(err error) string {
	var pe *pgconn.ParseConfigError
	if errors.As(err, &pe) {
		msg := err.Error()
		if i := strings.LastIndex(msg, "`: "); i >= 0 {
			msg = msg[i+3:]
		}
		if i := strings.Index(msg, " (parse "); i >= 0 {
			msg = msg[:i]
		}
		return msg
	}
	return "its form is not known"
}

// IsZero reports whether d names nothing.
func (d DSN) IsZero() bool { return d.cfg == nil }

// Host returns the first host, or the directory of the socket.
func (d DSN) Host() string { return d.cfg.Host }

// Port returns the first port.
func (d DSN) Port() int { return int(d.cfg.Port) }

// User returns the role.
func (d DSN) User() string { return d.cfg.User }

// Password returns the password, from the string, PGPASSWORD or the password
// file. It must not be printed.
func (d DSN) Password() string { return d.cfg.Password }

// Database returns the database's name.
func (d DSN) Database() string { return d.cfg.Database }

// Address returns host:port, or the path of the Unix socket. The host is the
// numeric address where the DSN has one (hostaddr); Host still is its name.
func (d DSN) Address() string {
	if d.addr != "" {
		return net.JoinHostPort(d.addr, strconv.Itoa(int(d.cfg.Port)))
	}
	_, addr := pgconn.NetworkAddress(d.cfg.Host, d.cfg.Port)
	return addr
}

// Config returns a fresh copy of the driver's configuration.
func (d DSN) Config() *pgx.ConnConfig { return d.cfg.Copy() }

// Redacted returns the place that the DSN names, without any secret.
func (d DSN) Redacted() string {
	if d.cfg == nil {
		return "(none)"
	}
	return fmt.Sprintf("%s@%s/%s", d.cfg.User, net.JoinHostPort(d.cfg.Host, strconv.Itoa(int(d.cfg.Port))), d.cfg.Database)
}

// String is Redacted, so that a DSN that is printed by mistake tells nothing.
func (d DSN) String() string { return d.Redacted() }

// WithDatabase returns the same place with another database.
func (d DSN) WithDatabase(db string) DSN {
	return d.with("dbname", db, func(c *pgx.ConnConfig) { c.Database = db })
}

// WithUser returns the same place with another role and password.
func (d DSN) WithUser(user, password string) DSN {
	return d.with("user", user, func(c *pgx.ConnConfig) { c.User = user }).
		with("password", password, func(c *pgx.ConnConfig) { c.Password = password })
}

func (d DSN) with(key, value string, set func(*pgx.ConnConfig)) DSN {
	cfg := d.cfg.Copy()
	set(cfg)
	pairs, err := conninfoPairs(d.raw)
	if err != nil {
		pairs = nil
	}
	pairs = append(pairs, pair{key, value})
	return DSN{raw: joinPairs(pairs, nil), cfg: cfg, addr: d.addr}
}

// LibpqEnv returns what a child that uses libpq needs: a key=value connection
// string without the password, fit for an argument list, and the environment
// entries that hold the password.
func (d DSN) LibpqEnv() (conninfo string, env []string) {
	pairs, err := conninfoPairs(d.raw)
	if err != nil {
		pairs = []pair{{"host", d.cfg.Host}, {"port", strconv.Itoa(int(d.cfg.Port))}}
	}
	pairs = append(pairs, pair{"user", d.cfg.User}, pair{"dbname", d.cfg.Database})
	if d.cfg.Password != "" {
		env = append(env, "PGPASSWORD="+d.cfg.Password)
	}
	return joinPairs(pairs, map[string]bool{"password": true, "sslpassword": true}), env
}

// redact hides whatever may be a secret in a string that could not be parsed.
func redact(s string) string {
	if i := strings.Index(s, "://"); i >= 0 {
		rest := s[i+3:]
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			rest = "…@" + rest[at+1:]
		}
		rest, _, _ = strings.Cut(rest, "?")
		return strconv.Quote(s[:i+3] + rest)
	}
	return "(key=value form, not shown)"
}

type pair struct{ key, value string }

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

// conninfoPairs splits a libpq connection string, URI or key=value, into its
// parameters in order.
func conninfoPairs(s string) ([]pair, error) {
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return uriPairs(s)
	}
	var pairs []pair
	for i := 0; i < len(s); {
		for i < len(s) && isSpace(s[i]) {
			i++
		}
		if i == len(s) {
			break
		}
		eq := strings.IndexByte(s[i:], '=')
		if eq < 0 {
			return nil, errors.New("a parameter without a value")
		}
		key := strings.TrimSpace(s[i : i+eq])
		i += eq + 1
		for i < len(s) && isSpace(s[i]) {
			i++
		}
		var v strings.Builder
		quoted := i < len(s) && s[i] == '\''
		if quoted {
			i++
		}
		for ; i < len(s); i++ {
			c := s[i]
			if c == '\\' && i+1 < len(s) {
				i++
				v.WriteByte(s[i])
				continue
			}
			if quoted && c == '\'' || !quoted && isSpace(c) {
				break
			}
			v.WriteByte(c)
		}
		if quoted {
			i++
		}
		pairs = append(pairs, pair{key, v.String()})
	}
	return pairs, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func uriPairs(s string) ([]pair, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("not a URI")
	}
	var pairs []pair
	var hosts, ports []string
	for _, hp := range strings.Split(u.Host, ",") {
		if hp == "" {
			continue
		}
		h, p := hp, ""
		if i := strings.LastIndex(hp, ":"); i >= 0 && !strings.HasSuffix(hp, "]") {
			h, p = hp[:i], hp[i+1:]
		}
		hosts = append(hosts, strings.Trim(h, "[]"))
		ports = append(ports, p)
	}
	if len(hosts) > 0 {
		pairs = append(pairs, pair{"host", strings.Join(hosts, ",")})
		if strings.Join(ports, "") != "" {
			pairs = append(pairs, pair{"port", strings.Join(ports, ",")})
		}
	}
	if u.User != nil {
		pairs = append(pairs, pair{"user", u.User.Username()})
		if pw, ok := u.User.Password(); ok {
			pairs = append(pairs, pair{"password", pw})
		}
	}
	if db := strings.TrimPrefix(u.Path, "/"); db != "" {
		pairs = append(pairs, pair{"dbname", db})
	}
	for _, kv := range strings.Split(u.RawQuery, "&") {
		if kv == "" {
			continue
		}
		k, v, _ := strings.Cut(kv, "=")
		k, err1 := url.PathUnescape(k)
		v, err2 := url.PathUnescape(v)
		if err1 != nil || err2 != nil {
			return nil, errors.New("bad escape in the query")
		}
		pairs = append(pairs, pair{k, v})
	}
	return pairs, nil
}
