package pg

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crossfade/internal/base/lists"
)

// parameter is one that libpq knows (PostgreSQL documentation 34.1.2, up to version 18). Each is
// either honoured or refused with a message, never ignored.
type parameter struct {
	name string
	env  string // its environment variable, "" for none
	// check refuses values: those that libpq refuses, and those that ask for what we do not do. nil
	// for any value.
	check func(value string) error
	// mild: a variable that we do not honour harms nothing, so that it is only warned of. Such
	// variables are set for all programs of a machine.
	mild bool
}

var parameters = []parameter{
	{name: "service", env: "PGSERVICE"},
	{name: "servicefile", env: "PGSERVICEFILE"},
	{name: "user", env: "PGUSER"},
	{name: "password", env: "PGPASSWORD"},
	{name: "passfile", env: "PGPASSFILE"},
	{name: "channel_binding", env: "PGCHANNELBINDING", check: oneOf("prefer", "disable", "require")},
	{name: "connect_timeout", env: "PGCONNECT_TIMEOUT", check: integer},
	{name: "dbname", env: "PGDATABASE"},
	{name: "host", env: "PGHOST"},
	{name: "hostaddr", env: "PGHOSTADDR"},
	{name: "port", env: "PGPORT", check: checkPorts},
	{name: "client_encoding", env: "PGCLIENTENCODING", check: checkEncoding, mild: true},
	{name: "options", env: "PGOPTIONS"},
	{name: "application_name", env: "PGAPPNAME"},
	{name: "fallback_application_name"},
	{name: "keepalives", check: integer},
	{name: "keepalives_idle", check: integer},
	{name: "keepalives_interval", check: integer},
	{name: "keepalives_count", check: integer},
	{name: "tcp_user_timeout", check: integer},
	{name: "sslmode", env: "PGSSLMODE", check: oneOf("disable", "allow", "prefer", "require", "verify-ca", "verify-full")},
	{name: "sslnegotiation", env: "PGSSLNEGOTIATION", check: oneOf("postgres", "direct")},
	{name: "sslcompression", env: "PGSSLCOMPRESSION", mild: true, check: onlyValue("0", "TLS is never compressed")},
	{name: "sslcert", env: "PGSSLCERT"},
	{name: "sslkey", env: "PGSSLKEY", check: checkKey},
	{name: "sslpassword"},
	{name: "sslcertmode", env: "PGSSLCERTMODE", check: oneOfBut("it is not checked whether the server asked for the certificate: write allow, or leave it out", "disable", "allow", "!require")},
	{name: "sslrootcert", env: "PGSSLROOTCERT"},
	{name: "sslcrl", env: "PGSSLCRL", check: unsupported("lists of revoked certificates are not read", "leave it out, and remove from sslrootcert the authority that signed the revoked certificates")},
	{name: "sslcrldir", env: "PGSSLCRLDIR", check: unsupported("lists of revoked certificates are not read", "leave it out, and remove from sslrootcert the authority that signed the revoked certificates")},
	{name: "sslsni", env: "PGSSLSNI", check: oneOf("0", "1")},
	{name: "requirepeer", env: "PGREQUIREPEER", check: unsupported("the user at the other end of a socket is not checked", "leave it out, or connect by TLS with sslmode=verify-full")},
	{name: "require_auth", env: "PGREQUIREAUTH", check: checkAuthMethods},
	{name: "ssl_min_protocol_version", env: "PGSSLMINPROTOCOLVERSION", check: checkTLSVersion},
	{name: "ssl_max_protocol_version", env: "PGSSLMAXPROTOCOLVERSION", check: checkTLSVersion},
	{name: "min_protocol_version", env: "PGMINPROTOCOLVERSION", check: oneOfBut("Crossfade speaks protocol 3.0: leave it out, or write 3.0", "3.0", "!3.2", "!latest")},
	{name: "max_protocol_version", env: "PGMAXPROTOCOLVERSION", check: oneOf("3.0", "3.2", "latest")},
	{name: "gssencmode", env: "PGGSSENCMODE", check: oneOfBut(noGSS+": write disable, and use TLS with sslmode", "disable", "prefer", "!require")},
	{name: "krbsrvname", env: "PGKRBSRVNAME", mild: true, check: unsupported(noGSS, noGSSRemedy)},
	{name: "gsslib", env: "PGGSSLIB", mild: true, check: unsupported(noGSS, noGSSRemedy)},
	{name: "gssdelegation", env: "PGGSSDELEGATION", mild: true, check: onlyValue("0", noGSS)},
	{name: "replication", check: checkReplicationMode},
	{name: "target_session_attrs", env: "PGTARGETSESSIONATTRS", check: oneOf("any", "read-write", "read-only", "primary", "standby", "prefer-standby")},
	{name: "load_balance_hosts", env: "PGLOADBALANCEHOSTS", check: oneOfBut("a migration is between two servers, and neither may change: name one host", "disable", "!random")},
	{name: "scram_client_key", check: unsupported("SCRAM keys in place of a password are not supported", "give the password")},
	{name: "scram_server_key", check: unsupported("SCRAM keys in place of a password are not supported", "give the password")},
	{name: "sslkeylogfile", check: unsupported("keys of TLS are never written down", "leave it out")},
	{name: "oauth_issuer", check: unsupported(noOAuth, noGSSRemedy)},
	{name: "oauth_client_id", check: unsupported(noOAuth, noGSSRemedy)},
	{name: "oauth_client_secret", check: unsupported(noOAuth, noGSSRemedy)},
	{name: "oauth_scope", check: unsupported(noOAuth, noGSSRemedy)},
}

const (
	noGSS       = "GSSAPI is not supported"
	noOAuth     = "OAuth is not supported"
	noGSSRemedy = "leave it out, and use a role that logs in by password or certificate"
)

// sessionVariables set defaults of sessions, which sessions of ours have for themselves so that
// values travel unchanged.
var sessionVariables = []string{"PGDATESTYLE", "PGTZ", "PGGEQO"}

func known(name string) bool {
	return slices.ContainsFunc(parameters, func(p parameter) bool { return p.name == name })
}

// otherNames are what people write for a parameter, from other drivers or by habit.
var otherNames = map[string]string{
	"database": "dbname", "db": "dbname", "username": "user", "pass": "password", "pwd": "password", "hostname": "host", "server": "host",
	"ssl": "sslmode", "timeout": "connect_timeout", "connectiontimeout": "connect_timeout", "logintimeout": "connect_timeout", "encoding": "client_encoding", "charset": "client_encoding", "appname": "application_name",
	"sslca": "sslrootcert", "sslrootca": "sslrootcert", "cafile": "sslrootcert", "sslcrlfile": "sslcrl", "passwordfile": "passfile",
	"targetservertype": "target_session_attrs", "endpoint": "options", "project": "options",
}

// unknownParameter refuses a name that libpq does not know, and says which was meant. secret says
// that it may be part of a password, and is not shown.
func unknownParameter(name string, secret bool) error {
	if near := nearest(name, lists.Map(parameters, func(p parameter) string { return p.name }), otherNames); near != "" {
		return fmt.Errorf("there is no parameter %s; did you mean %s?", shown(name), near)
	}
	if secret {
		return errors.New("a word with \"=\" is no parameter that libpq knows; a value with a space must stand in quotes, as in password='two words'")
	}
	return fmt.Errorf("there is no parameter %s that libpq knows; a setting of the server goes into options, as in options='-c name=value'", shown(name))
}

// nearest returns the name that a mistyped one was meant to be, "" where none is near. aliases
// lead from spellings without separators to names.
func nearest(given string, names []string, aliases map[string]string) string {
	plain := strings.NewReplacer("_", "", "-", "", " ", "")
	g := plain.Replace(strings.ToLower(given))
	if name, ok := aliases[g]; ok {
		return name
	}
	best, distance := "", 3
	for _, name := range names {
		n := plain.Replace(name)
		if d := editDistance(g, n); d < distance && 3*d <= len(n) {
			best, distance = name, d
		}
	}
	return best
}

// editDistance counts the letters to be put in, left out, replaced or exchanged with their
// neighbour.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
		for j := 1; j <= len(b); j++ {
			if i == 0 {
				rows[i][j] = j
				continue
			}
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		if slices.Contains(values, v) {
			return nil
		}
		if near := nearest(v, values, nil); near != "" {
			return fmt.Errorf("there is no value %q; did you mean %s?", v, near)
		}
		return fmt.Errorf("there is no value %q: write one of %s", v, strings.Join(values, ", "))
	}
}

// oneOfBut is oneOf, but those with a "!" are values of libpq's that we do not do, which why says.
func oneOfBut(why string, values ...string) func(string) error {
	known := oneOf(lists.Map(values, func(v string) string { return strings.TrimPrefix(v, "!") })...)
	return func(v string) error {
		if slices.Contains(values, "!"+v) {
			return errors.New(why)
		}
		return known(v)
	}
}

func onlyValue(value, why string) func(string) error {
	return func(v string) error {
		if v == value || v == "" {
			return nil
		}
		return fmt.Errorf("%s: leave it out, or write %s", why, value)
	}
}

func unsupported(why, remedy string) func(string) error {
	return func(v string) error {
		if v == "" {
			return nil
		}
		return errors.New(why + ": " + remedy)
	}
}

func integer(v string) error {
	if _, err := strconv.ParseInt(strings.TrimFunc(v, func(r rune) bool { return r < 128 && isSpace(byte(r)) }), 10, 32); err != nil {
		return fmt.Errorf("%q is not a whole number", v)
	}
	return nil
}

// checkPorts does not show the value: in a URI that is misread it may be a password.
func checkPorts(v string) error {
	for _, p := range strings.Split(v, ",") {
		if p == "" {
			continue
		}
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return errors.New(`it is no number from 1 to 65535; a ":", "/" or "@" within a password is written %3A, %2F, %40`)
		}
	}
	return nil
}

func checkEncoding(v string) error {
	switch strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(v)) {
	case "", "auto", "utf8", "unicode":
		return nil
	}
	return errors.New("sessions of ours speak UTF8, whatever the databases' encodings are: leave it out")
}

func checkKey(v string) error {
	if strings.Contains(v, ":") && !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, ".") {
		return errors.New("keys in an engine of OpenSSL are not used: name a file with the key in PEM form")
	}
	return nil
}

func checkTLSVersion(v string) error {
	if _, ok := tlsVersion(v); !ok && v != "" {
		return oneOf("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")(v)
	}
	return nil
}

func checkReplicationMode(v string) error {
	if slices.Contains([]string{"false", "off", "no", "0"}, v) {
		return nil
	}
	return errors.New("replication sessions are opened as they are needed: leave it out")
}

// authMethods are what libpq's require_auth may name.
var authMethods = []string{"password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none"}

// checkAuthMethods refuses what libpq refuses of a require_auth: unknown names, names given
// twice, and lists of which some begin with "!" and some do not.
func checkAuthMethods(v string) error {
	seen := map[string]bool{}
	first := ""
	for _, m := range strings.Split(v, ",") {
		m = strings.TrimSpace(m)
		name, not := strings.CutPrefix(m, "!")
		if err := oneOf(authMethods...)(name); err != nil {
			return err
		}
		switch {
		case first == "":
			first = m
		case strings.HasPrefix(first, "!") != not:
			return fmt.Errorf("%s and %s do not go together: begin all of them with \"!\", or none", first, m)
		}
		if seen[name] {
			return fmt.Errorf("%s is given twice", name)
		}
		seen[name] = true
	}
	return nil
}

// AllowsAuth reports whether the connection string lets a server ask for a method of
// authentication, by libpq's names: password, md5, scram-sha-256, or none if the server asks for
// nothing.
func (d DSN) AllowsAuth(method string) bool {
	v := d.cfg.RequireAuth
	if v == "" {
		return true
	}
	var named []string
	not := false
	for _, m := range strings.Split(v, ",") {
		name, n := strings.CutPrefix(strings.TrimSpace(m), "!")
		named, not = append(named, name), n
	}
	return slices.Contains(named, method) != not
}
