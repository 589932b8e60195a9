package pg_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
)

// connectionStrings are read by libpq and by us, each with the parts of a string that libpq is
// known to trip over. Port 1 is where nobody listens.
var connectionStrings = []string{
	"host=127.0.0.1 port=1 user=u dbname=d", "  host = 127.0.0.1   port =1 user= u dbname=d ", "host='127.0.0.1' port='1' user='a b' dbname='it\\'s'",
	"host=127.0.0.1 port=1 user=a\\ b dbname=d\\", "host=127.0.0.1 port=1 user=u dbname=d sslmode", "host=127.0.0.1 port=1 user=u dbname=d sslmode prefer",
	"host=127.0.0.1 port=1 user='u dbname=d", "host=127.0.0.1 port=1 user='u'dbname=d", "host=127.0.0.1 port=1 user=u ssl_mode=require", "host=127.0.0.1 port=1 user=u =x",
	"host=127.0.0.1 port=1 user=u sslmode=requrie", "host=127.0.0.1 port=1 user=u sslmode=''", "host=127.0.0.1 port=1 user=u SSLMODE=require",
	"host=127.0.0.1 port=1 user=u database=d", "host=127.0.0.1 port=1 user=u search_path=x", "host=127.0.0.1 port=1 user=u application_name=x\ttcp_user_timeout=1",
	"host=127.0.0.1 port=1x user=u", "host=127.0.0.1 port=0 user=u", "host=127.0.0.1 port=65536 user=u", "host=127.0.0.1,127.0.0.1 port=1,1,1 user=u",
	"host=127.0.0.1,127.0.0.1 port=1 user=u", "host=127.0.0.1 hostaddr=127.0.0.1,127.0.0.1 port=1 user=u", "host=127.0.0.1 port=1 user=u connect_timeout=x", "host=127.0.0.1 port=1 user=u connect_timeout=-1",
	"host=127.0.0.1 port=1 user=u connect_timeout=' 3 '", "host=127.0.0.1 port=1 user=u keepalives=x", "host=127.0.0.1 port=1 user=u keepalives=0 keepalives_idle=-5",
	"host=127.0.0.1 port=1 user=u target_session_attrs=master", "host=127.0.0.1 port=1 user=u channel_binding=always", "host=127.0.0.1 port=1 user=u ssl_min_protocol_version=TLSv1.4",
	"host=127.0.0.1 port=1 user=u ssl_min_protocol_version=tlsv1.3 ssl_max_protocol_version=TLSv1.2", "host=127.0.0.1 port=1 user=u ssl_min_protocol_version=tlsv1.2",
	"host=127.0.0.1 port=1 user=u gssencmode=maybe", "host=127.0.0.1 port=1 user=u requiressl=0", "host=127.0.0.1 port=1 user=u fallback_application_name=x client_encoding=UTF8",
	"postgresql://u@127.0.0.1:1/d", "postgres://u:p@127.0.0.1:1/d?sslmode=prefer", "postgresql://u@127.0.0.1:1/d?ssl_mode=require", "postgresql://u@127.0.0.1:1/d?ssl=true&sslmode=disable",
	"postgresql://u@127.0.0.1:1/d?ssl=false", "postgresql://u@127.0.0.1:1/d?sslmode", "postgresql://u@127.0.0.1:1/d?sslmode=disable&", "postgresql://u@127.0.0.1:1/d?&sslmode=disable",
	"postgresql://u@127.0.0.1:1/d?sslmode=disable=x", "postgresql://u@127.0.0.1:1/d?options=-c%20a.b%3D1", "postgresql://u@127.0.0.1:1/d?options=-c a.b", "postgresql://u@127.0.0.1:1/%zz",
	"postgresql://u@127.0.0.1:1/a%00b", "postgresql://u%40x:p%3Aq@127.0.0.1:1/d", "postgresql://u@127.0.0.1:1?sslmode=disable", "postgresql://u@127.0.0.1:1", "postgresql://u@127.0.0.1:1/",
	"postgresql://u@[::1]:1/d", "postgresql://u@[::1/d", "postgresql://u@[]:1/d", "postgresql://u@[::1]x/d", "postgresql://u@127.0.0.1:1,127.0.0.1:1/d", "postgresql://u@127.0.0.1,127.0.0.1:1,/d?port=1",
	"postgresql://u:p?w@127.0.0.1:1/d", "postgresql://u@/d?host=127.0.0.1&port=1", "postgresql://@127.0.0.1:1/d?user=u", "postgresql://127.0.0.1:1/d?user=u", "postgresql:///d?host=127.0.0.1&port=1&user=u",
	"postgresql://u@127.0.0.1:x/d", "postgresql://u@127.0.0.1:1/d?dbname=other", "postgresql://u@127.0.0.1:1/a/b", "POSTGRESQL://u@127.0.0.1:1/d", "postgresql:/u@127.0.0.1:1/d",
	"postgresql://u@127.0.0.1:1/d?SSLMODE=require", "postgresql://u@127.0.0.1:1/d?sslmode=%72equire", "postgresql://u@127.0.0.1:1/d?%73slmode=require",
	// What only the form refuses: the values are good ones.
	"postgresql://u@127.0.0.1:1/d?application_name=a=b", "postgresql://u@127.0.0.1:1/d?application_name=a%3Db", "postgresql://u@127.0.0.1:1/d?application_name", "postgresql://u@127.0.0.1:1/d?application_name=",
}

// refusedByLibpq reports whether psql says that a connection string is wrong, rather than that
// nobody listens.
func refusedByLibpq(t *testing.T, psql, conninfo string) bool {
	t.Helper()
	cmd := exec.Command(psql, "-X", "-w", conninfo, "-c", "SELECT 1")
	cmd.Env = []string{"LC_ALL=C", "HOME=" + t.TempDir(), "PGCONNECT_TIMEOUT=10"}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	listens := strings.Contains(string(out), "Connection refused") || strings.Contains(string(out), "does not exist") && strings.Contains(string(out), "running locally") ||
		strings.Contains(string(out), "Cannot assign requested address") || strings.Contains(string(out), "Network is unreachable")
	return !listens
}

// What libpq refuses is refused, and what it takes is taken.
func TestConnectionStringsAreReadAsLibpqReadsThem(t *testing.T) {
	t.Parallel()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	home := t.TempDir()
	for _, s := range connectionStrings {
		if strings.Contains(s, "://") || strings.Contains(s, "=") { // psql takes any other word for a database's name
			want := refusedByLibpq(t, b.Path("psql"), s)
			_, err := pg.ParseDSNIn(s, nil, home)
			require.Equal(t, want, err != nil, "libpq refuses %q: %v; we: %v", s, want, err)
		}
	}
}

// Whatever the values are, quoting them the way that libpq documents brings them back.
func TestQuotedValuesAreReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.StringMatching(`[^\x00]+`).Draw(t, "user")
		db := rapid.StringMatching(`[^\x00]+`).Draw(t, "database")
		q := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
		d, err := pg.ParseDSNIn("host=h user='"+q.Replace(user)+"' dbname = '"+q.Replace(db)+"'", nil, "")
		if err != nil || d.User() != user || d.Database() != db {
			t.Fatalf("%q %q: %v", user, db, err)
		}
		var escaped strings.Builder
		for i := range len(user) {
			escaped.WriteString("%" + string("0123456789abcdef"[user[i]>>4]) + string("0123456789ABCDEF"[user[i]&15]))
		}
		d, err = pg.ParseDSNIn("postgresql://"+escaped.String()+"@h/", nil, "")
		if err != nil || d.User() != user {
			t.Fatalf("%q: %v", user, err)
		}
	})
}

func TestAMistypedParameterIsRefusedWithTheOneThatWasMeant(t *testing.T) {
	t.Parallel()
	for given, meant := range map[string]string{
		"ssl_mode=require": "sslmode", "sslMode=require": "sslmode", "ssmode=require": "sslmode", "sslmdoe=require": "sslmode", "sslrootcrt=x": "sslrootcert", "ssl_root_cert=x": "sslrootcert",
		"database=d": "dbname", "db_name=d": "dbname", "hostadr=127.0.0.1": "hostaddr", "connection_timeout=3": "connect_timeout", "conect_timeout=3": "connect_timeout",
		"channelbinding=require": "channel_binding", "target_session_attr=any": "target_session_attrs", "username=x": "user", "pwd=s3cret": "password", "pass=s3cret": "password", "aplication_name=x": "application_name",
		"keepalive=1": "keepalives", "ssl=require": "sslmode",
	} {
		k, v, _ := strings.Cut(given, "=")
		for _, s := range []string{"host=h user=u dbname=d " + given, "postgresql://u@h/d?" + given} {
			_, err := pg.ParseDSNIn(s, nil, "")
			require.ErrorContains(t, err, "did you mean "+meant+"?", s)
			require.ErrorContains(t, err, k)
			require.NotContains(t, err.Error(), "s3cret", v)
		}
	}
	for given, meant := range map[string]string{"sslmode=requrie": "require", "sslmode=verify_full": "verify-full", "sslmode=verifyfull": "verify-full", "target_session_attrs=readwrite": "read-write",
		"channel_binding=required": "require", "gssencmode=disabled": "disable", "sslnegotiation=drect": "direct"} {
		_, err := pg.ParseDSNIn("host=h user=u dbname=d "+given, nil, "")
		require.ErrorContains(t, err, "did you mean "+meant+"?", given)
	}
	_, err := pg.ParseDSNIn("host=h user=u statement_timeout=3s", nil, "")
	require.ErrorContains(t, err, `"statement_timeout"`)
	require.ErrorContains(t, err, "options='-c name=value'")
	_, err = pg.ParseDSNIn("host=h user=u sslmode=sometimes", nil, "")
	require.ErrorContains(t, err, "write one of disable, allow")
}

// A password that is not quoted spills into the words after it.
func TestWhatMayBeAPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"host=h user=u password=my hunter2 dbname=d", "host=h user=u password=my hunter2=x dbname=d", "host=h user=u password='hunter2 dbname=d", "postgresql://u:hunter2/x@h/d",
		"postgresql://u:hun%ter2@h/d", "postgresql://u:[hunter2@h/d?a", "hunter2", "host=h user=u password=x hunter2"} {
		_, err := pg.ParseDSNIn(s, nil, "")
		require.Error(t, err, s)
		require.NotContains(t, err.Error(), "hunter2", s)
		require.NotContains(t, err.Error(), "\n")
	}
}

// What libpq knows and we do not do is refused with words, in the string, in a service and in a
// variable.
func TestWhatHasNoEffectIsRefused(t *testing.T) {
	t.Parallel()
	for given, words := range map[string]string{
		"sslcrl=/x": "revoked", "sslcrldir=/x": "revoked", "requirepeer=postgres": "sslmode=verify-full", "sslcompression=1": "never compressed", "gssencmode=require": "GSSAPI", "krbsrvname=pg": "GSSAPI",
		"gsslib=gssapi": "GSSAPI", "gssdelegation=1": "GSSAPI", "replication=database": "leave it out", "client_encoding=LATIN1": "UTF8", "load_balance_hosts=random": "name one host", "sslcertmode=require": "write allow",
		"min_protocol_version=3.2": "3.0", "scram_client_key=x": "password", "scram_server_key=x": "password", "sslkeylogfile=/x": "leave it out", "oauth_issuer=x": "OAuth", "oauth_client_id=x": "OAuth",
		"oauth_client_secret=hunter2": "OAuth", "oauth_scope=x": "OAuth", "sslkey=engine:key": "PEM",
	} {
		name, _, _ := strings.Cut(given, "=")
		_, err := pg.ParseDSNIn("host=h user=u dbname=d "+given, nil, "")
		require.ErrorContains(t, err, words, given)
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "hunter2")
	}
	for _, harmless := range []string{"sslcompression=0", "gssencmode=disable", "gssencmode=prefer", "gssdelegation=0", "replication=false", "client_encoding=utf-8", "client_encoding=auto", "load_balance_hosts=disable",
		"sslcertmode=allow", "min_protocol_version=3.0", "max_protocol_version=latest", "sslcrl=''", "requirepeer=''", "require_auth=scram-sha-256,!none"} {
		_, err := pg.ParseDSNIn("host=h user=u dbname=d "+harmless, nil, "")
		if strings.Contains(harmless, "!none") {
			require.ErrorContains(t, err, "do not go together")
			continue
		}
		require.NoError(t, err, harmless)
	}
}
