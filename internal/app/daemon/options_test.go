package daemon

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/exit"
	"crossfade/internal/app/logins"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What is wrong with an option is told once, and taken as it is written there.
func TestWrongOptionsAreTakenAsTheRefusalWritesThem(t *testing.T) {
	t.Parallel()
	parsed := func(text string) pg.DSN {
		d, err := pg.ParseDSN(text)
		require.NoError(t, err)
		return d
	}
	source, target := parsed("postgresql://u@a.example/d"), parsed("postgresql://u@b.example/d")
	number := func(v string) int { n, err := strconv.Atoi(v); require.NoError(t, err); return n }
	span := func(v string) time.Duration { d, err := time.ParseDuration(v); require.NoError(t, err); return d }
	for says, x := range map[string]struct {
		wrong   func(*Config)
		pattern string
		right   func(*Config, string)
	}{
		"--source and --target are both needed": {func(c *Config) { c.Target = pg.DSN{} }, `(--target)`, func(c *Config, _ string) { c.Target = target }},
		"--source: host ep-x-pooler.neon.tech is a connection pooler": {func(c *Config) { c.Source = parsed("postgresql://u@ep-x-pooler.neon.tech/d") }, `use the direct host, (\S+)$`,
			func(c *Config, v string) { c.Source = parsed("postgresql://u@" + v + "/d") }},
		`--listen "6432": write host:port`:        {func(c *Config) { c.Listen = "6432" }, `such as (\S+)$`, func(c *Config, v string) { c.Listen = v }},
		"--chunk-bytes -1: write a number above":  {func(c *Config) { c.ChunkBytes = -1 }, `a number above (\d+)$`, func(c *Config, v string) { c.ChunkBytes = int64(number(v)) + 1 }},
		"--jobs 0: write a number from 1 to":      {func(c *Config) { c.Jobs = 0 }, `to (\d+)$`, func(c *Config, v string) { c.Jobs = number(v) }},
		"--source-lock-timeout 2s: write a time":  {func(c *Config) { c.SourceLockTimeout = 2 * time.Second }, `to (\S+)$`, func(c *Config, v string) { c.SourceLockTimeout = span(v) }},
		"--max-rate and --wal-budget must not be": {func(c *Config) { c.MaxRate = -1 }, `a size such as (\d+)M`, func(c *Config, v string) { c.MaxRate = int64(number(v)) << 20 }},
		"--hold-limit 0s: write a time above 0":   {func(c *Config) { c.HoldLimit = 0 }, `such as (\S+)$`, func(c *Config, v string) { c.HoldLimit = span(v) }},
		`--track-settings "tenant": write names`:  {func(c *Config) { c.TrackSettings = []string{"tenant"} }, `such as (\S+),`, func(c *Config, v string) { c.TrackSettings = []string{v} }},
		"--shutdown-timeout 0s: write a time":     {func(c *Config) { c.ShutdownTimeout = 0 }, `such as (\S+)$`, func(c *Config, v string) { c.ShutdownTimeout = span(v) }},
		"--tls-cert and --tls-key go together":    {func(c *Config) { c.TLSCert = "c" }, `(give both)`, func(c *Config, _ string) { c.TLSKey = "k" }},
		"--tls-client-ca needs --tls-cert and":    {func(c *Config) { c.TLSClientCA = "a" }, `needs (--tls-cert and --tls-key)`, func(c *Config, _ string) { c.TLSCert, c.TLSKey = "c", "k" }},
		"--client-auth=cert needs --tls-client-ca": {func(c *Config) { c.ClientAuth, c.TLSCert, c.TLSKey = logins.ClientAuthCert, "c", "k" }, `needs (--tls-client-ca)`,
			func(c *Config, _ string) { c.TLSClientCA = "a" }},
		"--map-role app=: write a role of the source": {func(c *Config) { c.MapRole = map[string]string{"app": ""} }, `such as app=(\w+)`, func(c *Config, v string) { c.MapRole = map[string]string{"app": v} }},
	} {
		c := runConfig(t, source, target)
		x.wrong(&c)
		err := c.Validate()
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "\n", "it alone is wrong")
		require.Equal(t, 1, strings.Count(err.Error(), says))
		v := regexp.MustCompile(x.pattern).FindStringSubmatch(err.Error())
		require.NotNil(t, v, err.Error())
		x.right(&c, v[1])
		require.NoError(t, c.Validate(), says)
	}
	for says, x := range map[string]struct {
		wrong   func(*CopyOptions)
		pattern string
		right   func(*CopyOptions, string)
	}{
		"--jobs 0: write a number from 1 to":               {func(o *CopyOptions) { o.Jobs = 0 }, `from (\d+) to`, func(o *CopyOptions, v string) { o.Jobs = number(v) }},
		"--lock-wait-timeout -1ns: write a time above 0":   {func(o *CopyOptions) { o.LockWaitTimeout = -1 }, `such as (\S+)$`, func(o *CopyOptions, v string) { o.LockWaitTimeout = span(v) }},
		"--max-rate must not be negative":                  {func(o *CopyOptions) { o.MaxRate = -1 }, `a size such as (\d+)M`, func(o *CopyOptions, v string) { o.MaxRate = int64(number(v)) << 20 }},
		"--schema-only and --data-only do not go together": {func(o *CopyOptions) { o.SchemaOnly, o.DataOnly = true, true }, `(leave both out)`, func(o *CopyOptions, _ string) { o.SchemaOnly, o.DataOnly = false, false }},
		"--rename-database without --all-databases do not": {func(o *CopyOptions) { o.RenameDatabase = map[string]string{"a": "b"} }, `(--all-databases)`, func(o *CopyOptions, _ string) { o.AllDatabases = true }},
	} {
		o := CopyOptions{Jobs: 1}
		x.wrong(&o)
		err := o.Validate()
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "\n", "it alone is wrong")
		v := regexp.MustCompile(x.pattern).FindStringSubmatch(err.Error())
		require.NotNil(t, v, err.Error())
		x.right(&o, v[1])
		require.NoError(t, o.Validate(), says)
	}
}

// What a run cannot do with a connection string is told once, and taken as it is written there.
func TestConnectionStringsAreTakenAsTheRefusalWritesThem(t *testing.T) {
	t.Parallel()
	one, err := pg.ParseDSN("postgresql://u@a.example/d")
	require.NoError(t, err)
	two, err := pg.ParseDSN("host=a.example,b.example user=u dbname=d")
	require.NoError(t, err)
	err = refuseHostLists(Config{Source: two, Target: one})
	require.EqualError(t, err, "--source names 2 hosts, and a run is between two servers: name the one that is written to")
	require.NoError(t, refuseHostLists(Config{Source: one, Target: one}))

	_, err = logins.Load(logins.Config{Source: one, Target: one}, zerolog.Nop())
	require.ErrorContains(t, err, "--source has no password, so clients that log in as u cannot prove who they are")
	require.Equal(t, exit.CodeUsage, exit.Code(err))
	v := regexp.MustCompile(`give the password, or --client-auth=(\w+)$`).FindStringSubmatch(err.Error())
	require.NotNil(t, v, err.Error())
	_, err = logins.Load(logins.Config{Source: one, Target: one, ClientAuth: v[1]}, zerolog.Nop())
	require.NoError(t, err)
	_, err = logins.Load(logins.Config{Source: one.WithUser("u", "p"), Target: one}, zerolog.Nop())
	require.NoError(t, err)
}

// Names of databases that cannot be on the target are refused once, before anything is made, and taken where they are
// given another name with the option that is printed.
func TestNamesOfDatabasesAreTakenAsTheRefusalWritesThem(t *testing.T) {
	t.Parallel()
	databases := []sourceDatabase{{Name: "shop", MayConnect: true}, {Name: "old", MayConnect: true}, {Name: neonDatabase, MayConnect: true}}
	for says, x := range map[string]struct {
		renames map[string]string
		neon    bool
		pattern string
		right   func(renames map[string]string, said string)
	}{
		"--rename-database nosuch: the source has no such database": {map[string]string{"nosuch": "x"}, false, `it has (\w+),`, func(r map[string]string, v string) { delete(r, "nosuch"); r[v] = "x" }},
		"databases shop and old would both be shop on the target":   {map[string]string{"old": "shop"}, false, `(--rename-database)$`, func(r map[string]string, _ string) { r["old"] = "older" }},
		"database " + neonDatabase + " is Neon's own on the target": {map[string]string{}, true, `--rename-database (\w+)=NAME$`, func(r map[string]string, v string) { r[v] = "x" }},
	} {
		err := checkNames(databases, CopyOptions{AllDatabases: true, RenameDatabase: x.renames}, x.neon)
		require.ErrorContains(t, err, says)
		require.Equal(t, exit.CodeUsage, exit.Code(err))
		v := regexp.MustCompile(x.pattern).FindStringSubmatch(err.Error())
		require.NotNil(t, v, err.Error())
		x.right(x.renames, v[1])
		require.NoError(t, checkNames(databases, CopyOptions{AllDatabases: true, RenameDatabase: x.renames}, x.neon))
	}
}

// A database that the target's role may not make is made as it is printed, and so is one where the role may by then.
func TestADatabaseThatMayNotBeMadeIsMadeAsTheRefusalWritesIt(t *testing.T) {
	t.Parallel()
	target := pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	conn, admin := pgtest.Conn(t, target), pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	for i, print := range []string{`as a role that may: (CREATE DATABASE [^;]+);`, `let the role: (ALTER ROLE .*)$`} {
		d := sourceDatabase{Name: fmt.Sprintf("Made %d of %s", i, target.Database()), Encoding: "UTF8", Collate: "C", Type: "C", MayConnect: true}
		t.Cleanup(func() {
			pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres")), "DROP DATABASE IF EXISTS "+pg.QuoteIdent(d.Name))
		})
		_, _, err := makeDatabase(t.Context(), conn, d, d.Name)
		require.ErrorContains(t, err, "make database "+d.Name+" on the target: ")
		require.Equal(t, 1, strings.Count(err.Error(), "permission denied"))
		v := regexp.MustCompile(print).FindStringSubmatch(err.Error())
		require.NotNil(t, v, err.Error())
		pgtest.Exec(t, admin, v[1])
		made, _, err := makeDatabase(t.Context(), conn, d, d.Name)
		require.NoError(t, err)
		require.Equal(t, i == 1, made)
		require.Equal(t, target.User()+" C", pgtest.Value(t, admin, "SELECT datdba::regrole || ' ' || datcollate FROM pg_database WHERE datname = "+pg.QuoteLiteral(d.Name)))
	}
}

// A list of hosts is refused before anything is asked of a server.
func TestAListOfHostsIsRefused(t *testing.T) {
	t.Parallel()
	one, err := pg.ParseDSN("host=db.example user=u password=p dbname=d")
	require.NoError(t, err)
	many, err := pg.ParseDSN("host=a.example,b.example user=u password=p dbname=d")
	require.NoError(t, err)
	err = Run(t.Context(), runConfig(t, many, one), zerolog.Nop(), nil)
	require.ErrorContains(t, err, "--source names 2 hosts")
	require.Equal(t, exit.CodeUsage, exit.Code(err))
}
