package pg

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DSN is a parsed connection string of libpq, URI or key=value, with the PG*
// variables and the password file taken in (PostgreSQL documentation 34.1.1).
// The zero value names nothing. A DSN is immutable and may be shared.
type DSN struct {
	raw      string // as given, the password included
	cfg      *pgx.ConnConfig
	addr     string      // where the first host is, if hostaddr says so
	dialer   *net.Dialer // nil for the default
	sslmode  string
	warnings []string
}

// ParseDSN reads a connection string. Its errors never hold the password. What libpq would
// refuse is refused, and so is what would have no effect.
func ParseDSN(s string) (DSN, error) { return parseDSN(s, ownEnvironment()) }

func parseDSN(s string, env environment) (DSN, error) {
	if strings.TrimSpace(s) == "" {
		return DSN{}, errors.New("connection string is empty: give one such as postgresql://user@host:5432/database")
	}
	given, err := gather(s, env)
	if err != nil {
		return DSN{}, fmt.Errorf("connection string %s: %w", redact(s), err)
	}
	if given.get("host") == "" && given.get("hostaddr") != "" { // libpq then takes the address for the name
		given.of["host"] = given.of["hostaddr"]
	}
	d, err := given.build(s, env)
	return d, Wrap(err, "connection string %s", redact(s))
}

// build makes a DSN of settings that have been checked.
func (s *settings) build(raw string, env environment) (DSN, error) {
	rootFile, roots, err := s.readRoots(env)
	if err != nil {
		return DSN{}, err
	}
	if err := s.clientKey(env); err != nil {
		return DSN{}, err
	}
	cfg, err := pgx.ParseConfig(s.forDriver())
	if err != nil {
		return DSN{}, errors.New(parseReason(err))
	}
	cfg.Database = cmp.Or(cfg.Database, cfg.User)
	if cfg.User == "" {
		return DSN{}, errors.New("it names no user")
	}
	cfg.TLSConfig = s.secured(cfg.TLSConfig, cfg.Host, rootFile, roots)
	for _, f := range cfg.Fallbacks {
		f.TLSConfig = s.secured(f.TLSConfig, f.Host, rootFile, roots)
	}
	if cfg.Password == "" {
		cfg.Password = s.filePassword(env, cfg.Host, strconv.Itoa(int(cfg.Port)), cfg.Database, cfg.User)
	}
	d := DSN{raw: raw, cfg: cfg, dialer: s.dialer(), sslmode: cmp.Or(s.get("sslmode"), "prefer")}
	if d.dialer != nil {
		dialer := *d.dialer
		dialer.Timeout = cfg.ConnectTimeout
		cfg.DialFunc = dialer.DialContext
	}
	if hostaddr := s.get("hostaddr"); hostaddr != "" {
		if d.addr, err = places(cfg, hostaddr); err != nil {
			return DSN{}, err
		}
	}
	if env.inHome(".postgresql", "root.crl") != "" && rootFile != "" && rootFile != systemRoots {
		s.warn("%q is not read: revoked certificates of servers are believed", filepath.Join(env.home, ".postgresql", "root.crl"))
	}
	delete(cfg.RuntimeParams, "application_name") // which the driver takes from PGAPPNAME
	if name := cmp.Or(s.get("application_name"), s.get("fallback_application_name")); name != "" {
		cfg.RuntimeParams["application_name"] = name
	}
	harden(cfg, s.get("sslmode"))
	d.warnings = s.warnings
	return d, nil
}

// forDriver writes the settings for the driver: in full, so that what it would add from the
// environment, and reads by other rules, has no effect.
func (s *settings) forDriver() string {
	var pairs []pair
	pass := func(names ...string) {
		for _, name := range names {
			if v, given := s.of[name]; given {
				pairs = append(pairs, pair{name, v.value})
			}
		}
	}
	pass("host", "port", "user", "password", "dbname", "options", "target_session_attrs", "channel_binding", "require_auth", "max_protocol_version",
		"sslcert", "sslkey", "sslpassword", "sslcertmode", "sslsni", "sslnegotiation")
	mode := cmp.Or(s.get("sslmode"), "prefer")
	if strings.HasPrefix(mode, "verify-") {
		mode = "require" // and what is verified is added
	}
	pairs = append(pairs, pair{"sslmode", mode}, pair{"sslrootcert", ""}, pair{"passfile", ""})
	for _, name := range []string{"sslcert", "sslkey"} {
		if _, given := s.of[name]; !given {
			pairs = append(pairs, pair{name, ""})
		}
	}
	if v, given := s.of["connect_timeout"]; given { // seconds; as with libpq none is less than two, and what is not above 0 sets no limit: ours then holds
		n, _ := strconv.Atoi(strings.TrimSpace(v.value))
		if n > 0 {
			n = max(n, 2)
		}
		pairs = append(pairs, pair{"connect_timeout", strconv.Itoa(max(n, 0))})
	}
	if v := s.of["service"]; v.from == "PGSERVICE" { // the driver reads it too
		pass("servicefile")
	}
	return joinPairs(pairs, nil)
}

// clientKey completes the names of the client's certificate and key by libpq's defaults, and
// refuses a key that others may read.
func (s *settings) clientKey(env environment) error {
	if s.get("sslcertmode") == "disable" || s.get("sslmode") == "disable" {
		delete(s.of, "sslcert")
		delete(s.of, "sslkey")
		return nil
	}
	for name, file := range map[string]string{"sslcert": "postgresql.crt", "sslkey": "postgresql.key"} {
		if path := env.inHome(".postgresql", file); s.get(name) == "" && path != "" {
			s.of[name] = setting{value: path, from: "the default"}
		}
	}
	cert, key := s.of["sslcert"], s.of["sslkey"]
	switch {
	case cert.value != "" && key.value == "":
		return fmt.Errorf("certificate %q is there and no private key: name its file in sslkey", cert.value)
	case cert.value == "" && key.value != "" && key.from != "the default":
		return fmt.Errorf("private key %q is there and no certificate: name its file in sslcert", key.value)
	case cert.value == "":
		delete(s.of, "sslkey")
		return nil
	}
	info, err := os.Stat(key.value)
	switch {
	case err != nil:
		return fmt.Errorf("private key file %q: %w", key.value, withoutPath(err))
	case !info.Mode().IsRegular():
		return fmt.Errorf("private key file %q is no regular file", key.value)
	case runtime.GOOS != "windows" && info.Mode().Perm()&openTo(info) != 0:
		return fmt.Errorf("private key file %q has group or world access: chmod 0600 %s", key.value, shellWord(key.value))
	}
	return nil
}

// parseReason takes the part of the driver's message that cannot hold a secret.
func parseReason(err error) string {
	if _, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
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

func (d DSN) Port() int { return int(d.cfg.Port) }

func (d DSN) User() string { return d.cfg.User }

// Password returns the password, from the string, PGPASSWORD or the password
// file. It must not be printed.
func (d DSN) Password() string { return d.cfg.Password }

func (d DSN) Database() string { return d.cfg.Database }

// Address returns host:port, or the path of the Unix socket. The host is the numeric address if the
// DSN has one (hostaddr); Host still returns its name.
func (d DSN) Address() string {
	if d.addr != "" {
		return net.JoinHostPort(d.addr, strconv.Itoa(int(d.cfg.Port)))
	}
	_, addr := pgconn.NetworkAddress(d.cfg.Host, d.cfg.Port)
	return addr
}

// SSLMode returns what the DSN asks for, prefer where it says nothing. What a host of Neon's gets
// is more (harden).
func (d DSN) SSLMode() string { return d.sslmode }

// Warnings says what of the environment has no effect, in a line each.
func (d DSN) Warnings() []string { return d.warnings }

// Hosts returns how many hosts the DSN names, which are tried in turn.
func (d DSN) Hosts() int { return len(placesOf(d.cfg)) }

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

// WithTag returns the same place, whose sessions of ours say the tag in application_name: in
// parentheses, before what the connection string gives.
func (d DSN) WithTag(tag string) DSN {
	if given := d.cfg.RuntimeParams["application_name"]; given != "" {
		tag += ", " + given
	}
	return d.WithApplicationName(tag)
}

// WithApplicationName returns the same place with another application_name in the connection
// string; sessions of ours show it in parentheses (SessionName).
func (d DSN) WithApplicationName(name string) DSN {
	return d.with("application_name", name, func(c *pgx.ConnConfig) { c.RuntimeParams["application_name"] = name })
}

// SessionName is the application_name of a session of ours at d that does what name says.
func (d DSN) SessionName(name string) string {
	return sessionName(name, d.cfg.RuntimeParams["application_name"])
}

func sessionName(name, given string) string {
	name = strings.TrimSpace("crossfade " + name)
	if given != "" {
		name += " (" + given + ")"
	}
	return name
}

func (d DSN) with(key, value string, set func(*pgx.ConnConfig)) DSN {
	cfg := d.cfg.Copy()
	set(cfg)
	pairs, err := conninfoPairs(d.raw)
	if err != nil {
		pairs = nil
	}
	pairs = append(pairs, pair{key, value})
	return DSN{raw: joinPairs(pairs, nil), cfg: cfg, addr: d.addr, dialer: d.dialer, sslmode: d.sslmode, warnings: d.warnings}
}

// LibpqEnv returns what a child that uses libpq needs: a key=value connection string without the
// password, fit for an argument list, and the environment entries that hold the password.
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
