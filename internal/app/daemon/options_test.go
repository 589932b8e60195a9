package daemon

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/exit"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/options"
	"crossfade/internal/base/pg"
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
		wrong   func(*options.Run)
		pattern string
		right   func(*options.Run, string)
	}{
		"--source and --target are both needed": {func(c *options.Run) { c.Target = pg.DSN{} }, `(--target)`, func(c *options.Run, _ string) { c.Target = target }},
		"--source: host ep-x-pooler.neon.tech is a connection pooler": {func(c *options.Run) { c.Source = parsed("postgresql://u@ep-x-pooler.neon.tech/d") }, `use the direct host, (\S+)$`,
			func(c *options.Run, v string) { c.Source = parsed("postgresql://u@" + v + "/d") }},
		`--listen "6432": write host:port`:        {func(c *options.Run) { c.Listen = "6432" }, `such as (\S+)$`, func(c *options.Run, v string) { c.Listen = v }},
		"--chunk-bytes -1: write a number above":  {func(c *options.Run) { c.ChunkBytes = -1 }, `a number above (\d+)$`, func(c *options.Run, v string) { c.ChunkBytes = int64(number(v)) + 1 }},
		"--jobs 0: write a number from 1 to":      {func(c *options.Run) { c.Jobs = 0 }, `to (\d+)$`, func(c *options.Run, v string) { c.Jobs = number(v) }},
		"--source-lock-timeout 2s: write a time":  {func(c *options.Run) { c.SourceLockTimeout = 2 * time.Second }, `to (\S+)$`, func(c *options.Run, v string) { c.SourceLockTimeout = span(v) }},
		"--max-rate and --wal-budget must not be": {func(c *options.Run) { c.MaxRate = -1 }, `a size such as (\d+)M`, func(c *options.Run, v string) { c.MaxRate = int64(number(v)) << 20 }},
		"--hold-limit 0s: write a time above 0":   {func(c *options.Run) { c.HoldLimit = 0 }, `such as (\S+)$`, func(c *options.Run, v string) { c.HoldLimit = span(v) }},
		`--track-settings "tenant": write names`:  {func(c *options.Run) { c.TrackSettings = []string{"tenant"} }, `such as (\S+),`, func(c *options.Run, v string) { c.TrackSettings = []string{v} }},
		"--shutdown-timeout 0s: write a time":     {func(c *options.Run) { c.ShutdownTimeout = 0 }, `such as (\S+)$`, func(c *options.Run, v string) { c.ShutdownTimeout = span(v) }},
		"--verify-max-age -1s: write a time such": {func(c *options.Run) { c.Change.VerifyMaxAge = -time.Second }, `such as (\w+),`, func(c *options.Run, v string) { c.Change.VerifyMaxAge = span(v) }},
		"--tls-cert and --tls-key go together":    {func(c *options.Run) { c.TLSCert = "c" }, `(give both)`, func(c *options.Run, _ string) { c.TLSKey = "k" }},
		"--tls-client-ca needs --tls-cert and":    {func(c *options.Run) { c.TLSClientCA = "a" }, `needs (--tls-cert and --tls-key)`, func(c *options.Run, _ string) { c.TLSCert, c.TLSKey = "c", "k" }},
		"--client-auth=cert needs --tls-client-ca": {func(c *options.Run) { c.ClientAuth, c.TLSCert, c.TLSKey = logins.ClientAuthCert, "c", "k" }, `needs (--tls-client-ca)`,
			func(c *options.Run, _ string) { c.TLSClientCA = "a" }},
		"--map-role app=: write a role of the source": {func(c *options.Run) { c.MapRole = map[string]string{"app": ""} }, `such as app=(\w+)`, func(c *options.Run, v string) { c.MapRole = map[string]string{"app": v} }},
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
		wrong   func(*options.Copy)
		pattern string
		right   func(*options.Copy, string)
	}{
		"--jobs 0: write a number from 1 to":               {func(o *options.Copy) { o.Jobs = 0 }, `from (\d+) to`, func(o *options.Copy, v string) { o.Jobs = number(v) }},
		"--lock-wait-timeout -1ns: write a time above 0":   {func(o *options.Copy) { o.Schema.LockWaitTimeout = -1 }, `such as (\S+)$`, func(o *options.Copy, v string) { o.Schema.LockWaitTimeout = span(v) }},
		"--max-rate must not be negative":                  {func(o *options.Copy) { o.MaxRate = -1 }, `a size such as (\d+)M`, func(o *options.Copy, v string) { o.MaxRate = int64(number(v)) << 20 }},
		"--schema-only and --data-only do not go together": {func(o *options.Copy) { o.SchemaOnly, o.DataOnly = true, true }, `(leave both out)`, func(o *options.Copy, _ string) { o.SchemaOnly, o.DataOnly = false, false }},
		"--rename-database without --all-databases do not": {func(o *options.Copy) { o.RenameDatabase = map[string]string{"a": "b"} }, `(--all-databases)`, func(o *options.Copy, _ string) { o.AllDatabases = true }},
	} {
		o := options.Copy{Jobs: 1}
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
	err = refuseHostLists(options.Run{Source: two, Target: one})
	require.EqualError(t, err, "--source names 2 hosts, and a run is between two servers: name the one that is written to")
	require.NoError(t, refuseHostLists(options.Run{Source: one, Target: one}))

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
