package pg_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
)

// homeWith makes a home directory with files in it.
func homeWith(t *testing.T, mode os.FileMode, files map[string]string) string {
	t.Helper()
	home := t.TempDir()
	for name, content := range files {
		path := filepath.Join(home, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		require.NoError(t, os.Chmod(path, mode)) // whatever the umask is
	}
	return home
}

func TestAPasswordFileThatOthersMayReadIsNotUsed(t *testing.T) {
	t.Parallel()
	const line = "# a comment\nother:*:*:*:no\n/var/run/postgresql:5432:*:v:socket\nlocalhost:5432:*:v:local\ndb.example:5433:shop:bob:s3c\\:r\\\\et:more\n*:*:*:*:anybody's\n"
	home := homeWith(t, 0o600, map[string]string{".pgpass": line, "else": "*:*:*:bob:elsewhere"})
	for s, want := range map[string]string{
		"host=db.example port=5433 user=bob dbname=shop":              `s3c:r\et`,
		"host=db.example port=5433 user=bob dbname=other":             "anybody's",
		"host=other user=bob dbname=other":                            "no",
		"host=/var/run/postgresql user=v dbname=d":                    "socket",
		"host=/run/postgresql user=v dbname=d":                        "local",
		"host=/somewhere user=v dbname=d":                             "anybody's",
		"hostaddr=192.0.2.1 user=v dbname=d":                          "anybody's",
		"host=db.example port=5433 user=bob dbname=shop password=own": "own",
		"host=x user=bob dbname=shop passfile=" + home + "/else":      "elsewhere",
	} {
		d, err := pg.ParseDSNIn(s, nil, home)
		require.NoError(t, err, s)
		require.Equal(t, want, d.Password(), s)
		require.Empty(t, d.Warnings(), s)
	}
	d, err := pg.ParseDSNIn("host=x user=bob", map[string]string{"PGPASSFILE": home + "/else"}, home)
	require.NoError(t, err)
	require.Equal(t, "elsewhere", d.Password())

	for _, mode := range []os.FileMode{0o644, 0o640, 0o604} {
		open := homeWith(t, mode, map[string]string{".pgpass": line})
		d, err := pg.ParseDSNIn("host=db.example port=5433 user=bob dbname=shop", nil, open)
		require.NoError(t, err)
		require.Empty(t, d.Password(), "mode %o", mode)
		require.Len(t, d.Warnings(), 1)
		require.Contains(t, d.Warnings()[0], "group or world access")
		require.Contains(t, d.Warnings()[0], "chmod 0600 "+open+"/.pgpass")
		require.NotContains(t, d.Warnings()[0], "s3c")
		require.Len(t, d.WithDatabase("x").Warnings(), 1)
		d, err = pg.ParseDSNIn("host=db.example port=5433 user=bob dbname=shop password=own", nil, open)
		require.NoError(t, err)
		require.Empty(t, d.Warnings(), "nobody needs the file")
	}
	d, err = pg.ParseDSNIn("host=x user=bob passfile="+home, nil, "")
	require.NoError(t, err)
	require.Contains(t, d.Warnings()[0], "no") // a directory is no plain file
	d, err = pg.ParseDSNIn("host=x user=bob passfile=/nowhere/pgpass", nil, "")
	require.NoError(t, err)
	require.Contains(t, d.Warnings()[0], "does not exist")
}

func TestVariablesAreHonouredOrSaidToHaveNoEffect(t *testing.T) {
	t.Parallel()
	d, err := pg.ParseDSNIn("user=bob", map[string]string{"PGHOST": "db.example", "PGPORT": "5433", "PGDATABASE": "shop", "PGUSER": "eve", "PGPASSWORD": "x", "PGOPTIONS": "-c a.b=c",
		"PGSSLMODE": "require", "PGCHANNELBINDING": "require", "PGCONNECT_TIMEOUT": "7", "PGSSLMINPROTOCOLVERSION": "TLSv1.3", "PGREQUIREAUTH": "!password,!none", "PGHOSTADDR": "192.0.2.3", "PGSSLSNI": "0"}, "")
	require.NoError(t, err)
	require.Equal(t, "bob@db.example:5433/shop", d.Redacted(), "the string comes first")
	cfg := d.Config()
	require.Equal(t, "x", d.Password())
	require.Equal(t, "-c a.b=c", cfg.RuntimeParams["options"])
	require.EqualValues(t, 0x0304, cfg.TLSConfig.MinVersion)
	require.Empty(t, cfg.TLSConfig.ServerName, "sslsni=0")
	require.Empty(t, cfg.Fallbacks)
	require.Equal(t, "require", cfg.ChannelBinding)
	require.Equal(t, "192.0.2.3:5433", d.Address())
	require.EqualValues(t, 7e9, cfg.ConnectTimeout)
	require.True(t, d.AllowsAuth("md5"))
	require.False(t, d.AllowsAuth("password"))
	require.False(t, d.AllowsAuth("none"))

	for name, value := range map[string]string{"PGSSLMODE": "requrie", "PGSSLCRL": "/x", "PGSSLCRLDIR": "/x", "PGREQUIREPEER": "postgres", "PGGSSENCMODE": "require", "PGSSLMINPROTOCOLVERSION": "1.2", "PGTARGETSESSIONATTRS": "master",
		"PGCONNECT_TIMEOUT": "soon", "PGSSLNEGOTIATION": "x", "PGLOADBALANCEHOSTS": "random", "PGMINPROTOCOLVERSION": "3.2", "PGREQUIREAUTH": "kerberos", "PGSSLCERTMODE": "require", "PGPORT": "x"} {
		_, err := pg.ParseDSNIn("host=h user=u dbname=d", map[string]string{name: value}, "")
		require.ErrorContains(t, err, name, value)
	}
	_, err = pg.ParseDSNIn("host=h user=u dbname=d sslmode=require", map[string]string{"PGSSLMODE": "requrie"}, "")
	require.NoError(t, err)
	for name, value := range map[string]string{"PGKRBSRVNAME": "pg", "PGGSSLIB": "gssapi", "PGGSSDELEGATION": "1", "PGSSLCOMPRESSION": "1", "PGCLIENTENCODING": "LATIN1", "PGTZ": "Europe/Berlin", "PGDATESTYLE": "German", "PGGEQO": "off"} {
		d, err := pg.ParseDSNIn("host=h user=u dbname=d", map[string]string{name: value}, "")
		require.NoError(t, err, name)
		require.Len(t, d.Warnings(), 1, name)
		require.Contains(t, d.Warnings()[0], name+" has no effect")
	}
	d, err = pg.ParseDSNIn("host=h user=u dbname=d", map[string]string{"PGREQUIRESSL": "1"}, "")
	require.NoError(t, err)
	require.Empty(t, d.Config().Fallbacks, "it is sslmode=require")
	require.NotNil(t, d.Config().TLSConfig)
	for given, falls := range map[string]bool{"1": false, "0": true} {
		d, err = pg.ParseDSNIn("host=h user=u dbname=d requiressl="+given, nil, "")
		require.NoError(t, err)
		require.Equal(t, falls, len(d.Config().Fallbacks) > 0, "requiressl=%s", given)
	}
	_, err = pg.ParseDSNIn("host=h user=u sslrootcert=system sslmode=require", nil, "")
	require.ErrorContains(t, err, "too weak for sslrootcert=system")
	_, err = pg.ParseDSNIn("host=h user=u sslnegotiation=direct", nil, "")
	require.ErrorContains(t, err, "needs an sslmode")
}

func TestServices(t *testing.T) {
	t.Parallel()
	const file = "# services\n[other]\nhost=nowhere\nnonsense\n\n[shop]\nhost=db.example\nport=5433\nsslmode=disable\nuser=bob\n[after]\nhost=nowhere\n"
	home := homeWith(t, 0o644, map[string]string{".pg_service.conf": file, "sys/pg_service.conf": "[far]\nhost=far.example\nuser=u\n", "typo": "[shop]\nhost=h\nssl_mode=require\n", "nested": "[shop]\nservice=other\n",
		"ldap": "[shop]\nldap://h/x\n", "value": "[shop]\nsslmode=requrie\n", "crl": "[shop]\nsslcrl=/x\n"})
	vars := map[string]string{"PGSYSCONFDIR": filepath.Join(home, "sys"), "PGPORT": "1", "PGSSLMODE": "require"}
	for _, s := range []string{"service=shop dbname=d", "postgresql:///d?service=shop"} {
		d, err := pg.ParseDSNIn(s, vars, home)
		require.NoError(t, err)
		require.Equal(t, "bob@db.example:5433/d", d.Redacted(), "a service comes before the environment")
		require.Nil(t, d.Config().TLSConfig)
	}
	d, err := pg.ParseDSNIn("service=shop host=own dbname=d", vars, home)
	require.NoError(t, err)
	require.Equal(t, "bob@own:5433/d", d.Redacted())
	d, err = pg.ParseDSNIn("dbname=d", map[string]string{"PGSERVICE": "far", "PGSYSCONFDIR": vars["PGSYSCONFDIR"]}, home)
	require.NoError(t, err)
	require.Equal(t, "u@far.example:5432/d", d.Redacted())

	for name, words := range map[string]string{"typo": `line 3: there is no parameter "ssl_mode"; did you mean sslmode?`, "nested": "cannot name another one", "ldap": "LDAP", "value": "did you mean require?", "crl": "revoked", "missing": "no such file"} {
		_, err := pg.ParseDSNIn("service=shop", map[string]string{"PGSERVICEFILE": filepath.Join(home, name)}, home)
		require.ErrorContains(t, err, words, name)
		require.ErrorContains(t, err, name)
	}
	_, err = pg.ParseDSNIn("service=nobody", nil, home)
	require.ErrorContains(t, err, `definition of service "nobody" not found`)
}

func TestAPrivateKeyThatOthersMayReadIsRefused(t *testing.T) {
	t.Parallel()
	open := homeWith(t, 0o644, map[string]string{".postgresql/postgresql.crt": "c", ".postgresql/postgresql.key": "k"})
	_, err := pg.ParseDSNIn("host=h user=u dbname=d", nil, open)
	require.ErrorContains(t, err, "group or world access")
	for _, s := range []string{"host=h user=u dbname=d sslmode=disable", "host=h user=u dbname=d sslcertmode=disable"} {
		_, err = pg.ParseDSNIn(s, nil, open)
		require.NoError(t, err, "the key is not used")
	}
	_, err = pg.ParseDSNIn("host=h user=u dbname=d sslcert=/x/c.crt", nil, "")
	require.ErrorContains(t, err, "sslkey")
	_, err = pg.ParseDSNIn("host=h user=u dbname=d sslkey=/x/c.key", nil, "")
	require.ErrorContains(t, err, "sslcert")
}

func TestTCPSettingsReachTheSocket(t *testing.T) {
	t.Parallel()
	d, err := pg.ParseDSNIn("host=h user=u dbname=d keepalives_idle=11 keepalives_interval=12 keepalives_count=13 tcp_user_timeout=14000", nil, "")
	require.NoError(t, err)
	dialer := d.Dialer()
	require.EqualValues(t, 11e9, dialer.KeepAliveConfig.Idle)
	require.EqualValues(t, 12e9, dialer.KeepAliveConfig.Interval)
	require.Equal(t, 13, dialer.KeepAliveConfig.Count)
	d, err = pg.ParseDSNIn("host=h user=u dbname=d keepalives=0", nil, "")
	require.NoError(t, err)
	require.Negative(t, d.Dialer().KeepAlive)
	d, err = pg.ParseDSNIn("host=h user=u dbname=d", nil, "")
	require.NoError(t, err)
	require.Nil(t, d.Dialer())
}
