package workload

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/history"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestShopWithEveryDriver(t *testing.T) {
	t.Parallel()
	dsn := shop(t)
	w := begin(t, Config{DSN: dsn, Scenario: small, Clients: len(Drivers())})
	require.NoError(t, w.AwaitEach(bounded(t), 60))
	clean(t, w.Stop(bounded(t)), 60)
	rep := w.Stop(bounded(t)) // may be called again
	res := verdict(t, dsn, small, rep)
	require.NoError(t, res.Err())
	require.Equal(t, res.Acknowledged, res.Found)
	require.Equal(t, 3, res.Invariants)
	require.Len(t, res.Sides, 1)
	require.Positive(t, res.IDs)
	seen(t, small, rep)
}

func TestLibraryWithEveryDriver(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	require.NoError(t, Library{}.Setup(bounded(t), conn))
	w := begin(t, Config{DSN: dsn, Scenario: Library{}, Clients: len(Drivers())})
	require.NoError(t, w.AwaitEach(bounded(t), 60))
	rep := w.Stop(bounded(t))
	clean(t, rep, 60)
	res := verdict(t, dsn, Library{}, rep)
	require.NoError(t, res.Err())
	require.Equal(t, res.Acknowledged, res.Found)
	require.Equal(t, 4, res.Invariants)
	require.Positive(t, res.IDs)
	seen(t, Library{}, rep)
}

// The library is to show what a migration of an application's database meets: a kind
// of object that is taken out of it would be tried by no test of a whole migration.
func TestTheLibraryHasEveryKindOfKeyAndObject(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	require.NoError(t, Library{}.Load(bounded(t), conn))
	has := func(what, sql string) {
		require.NotEqual(t, "0", pgtest.Value(t, conn, "SELECT count(*) FROM "+sql), what)
	}
	for _, x := range []struct{ what, where string }{
		{"a key of one column", `contype = 'p' AND cardinality(conkey) = 1`}, {"a key of several", `contype = 'p' AND cardinality(conkey) > 2`},
		{"a unique constraint", `contype = 'u' AND NOT condeferrable`}, {"one that is deferred", `contype = 'u' AND condeferred`},
		{"an exclusion", `contype = 'x'`}, {"a check", `contype = 'c' AND conrelid <> 0`}, {"a check that is not inherited", `contype = 'c' AND connoinherit`},
		{"a domain's check", `contype = 'c' AND contypid <> 0`}, {"a constraint trigger", `contype = 't'`},
		{"a foreign key of several columns", `contype = 'f' AND cardinality(conkey) > 1`}, {"to its own table", `contype = 'f' AND conrelid = confrelid`},
		{"one that is deferred", `contype = 'f' AND condeferred`}, {"one that is not valid", `contype = 'f' AND NOT convalidated`},
		{"one that cascades", `contype = 'f' AND confdeltype = 'c'`}, {"one that sets null", `contype = 'f' AND confdeltype = 'n'`},
		{"from a partitioned table", `contype = 'f' AND conparentid = 0 AND (SELECT relkind FROM pg_class WHERE oid = conrelid) = 'p'`},
		{"to a partitioned table", `contype = 'f' AND (SELECT relkind FROM pg_class WHERE oid = confrelid) = 'p'`},
		{"from one partition only", `contype = 'f' AND conparentid = 0 AND (SELECT relispartition FROM pg_class WHERE oid = conrelid)`},
		{"to a key that is not the primary one", `contype = 'f' AND (SELECT NOT indisprimary FROM pg_index WHERE indexrelid = conindid)`},
	} {
		has(x.what, "pg_constraint WHERE "+x.where)
	}
	for _, strategy := range []string{"r", "l", "h"} {
		has("partitions by "+strategy, "pg_partitioned_table WHERE partstrat = '"+strategy+"'")
	}
	has("a partition of a partition", `pg_class WHERE relkind = 'p' AND relispartition`)
	has("a default partition", `pg_partitioned_table WHERE partdefid <> 0`)
	for _, kind := range []string{"e", "d", "c", "r"} {
		has("a type of kind "+kind, "pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE nspname = 'library' AND typtype = '"+kind+"'")
	}
	for _, method := range []string{"btree", "hash", "gist", "gin", "spgist", "brin"} {
		has("an index by "+method, "pg_class c JOIN pg_am a ON a.oid = c.relam AND a.amname = '"+method+"' JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'library'")
	}
	for _, identity := range []string{"d", "i", "f"} {
		has("a replica identity "+identity, "pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'library' AND relreplident = '"+identity+"' AND relkind = 'r'")
	}
	for _, state := range []string{"O", "D", "A"} {
		has("a trigger "+state, "pg_trigger WHERE NOT tgisinternal AND tgenabled = '"+state+"'")
	}
	has("a materialised view on another one", `pg_matviews WHERE definition LIKE '%author_standing%'`)
	has("a materialised view without rows", `pg_matviews WHERE NOT ispopulated`)
	has("an identity that is always made", `pg_attribute WHERE attidentity = 'a'`)
	has("an identity by default", `pg_attribute WHERE attidentity = 'd'`)
	has("a generated column", `pg_attribute WHERE attgenerated = 's'`)
	has("a column that was dropped", `pg_attribute WHERE attisdropped`)
	has("a text search configuration", `pg_ts_config c JOIN pg_namespace n ON n.oid = cfgnamespace WHERE nspname = 'library'`)
	has("a policy", `pg_policy`)
	has("a rule", `pg_rules WHERE schemaname = 'library'`)
	has("a function, a procedure, an aggregate", `(SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'library' HAVING count(DISTINCT prokind) = 3) kinds`)
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'library' AND relkind = 'r' AND reltuples < 1`),
		"every table has rows, and was looked at")
	require.Error(t, Library{}.Load(bounded(t), conn), "it is there")
}

func TestPagilaWithEveryDriver(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "..", "shared", "testdata", "pagila")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the sample database is not here: %v", err)
	}
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	require.NoError(t, LoadPagila(bounded(t), psqlPath(t), dir, dsn))
	conn := pgtest.Conn(t, dsn)
	require.Equal(t, "16044", pgtest.Value(t, conn, "SELECT count(*) FROM pagila.rental"))
	require.NoError(t, Pagila{}.Setup(bounded(t), conn))
	w := begin(t, Config{DSN: dsn, Scenario: Pagila{}, Clients: len(Drivers()), FirstClient: 100})
	require.NoError(t, w.AwaitEach(bounded(t), 60))
	rep := w.Stop(bounded(t))
	clean(t, rep, 60)
	require.Equal(t, 100, rep.Clients[0].Client)
	res := verdict(t, dsn, Pagila{}, rep)
	require.NoError(t, res.Err())
	require.Equal(t, res.Acknowledged, res.Found)
	seen(t, Pagila{}, rep)
}

// clean says that no client met anything odd.
func clean(t *testing.T, rep Report, each int) {
	t.Helper()
	require.Empty(t, rep.ErrorTexts)
	require.Zero(t, rep.Totals.Errors())
	require.Zero(t, rep.Reconnected)
	drivers := map[Driver]bool{}
	for _, c := range rep.Clients {
		require.GreaterOrEqual(t, c.Acknowledged, each, c.Driver)
		require.Positive(t, c.Reads, c.Driver)
		require.Positive(t, c.Latency.P50)
		require.GreaterOrEqual(t, c.LongestGap, c.Latency.P50)
		drivers[c.Driver] = true
	}
	require.Len(t, drivers, len(Drivers()))
}

// seen says that every step of the scenario was taken and its tokens read back.
func seen(t *testing.T, sc Scenario, rep Report) {
	t.Helper()
	kinds := map[string]int{}
	for _, o := range rep.Operations {
		kinds[o.Kind]++
	}
	for _, s := range sc.steps(nil) {
		require.Positive(t, kinds[s.kind], s.kind)
	}
	require.Positive(t, kinds["seen"])
}

func TestShopIsOfTheSizeThatItSays(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, shop(t))
	for table, want := range map[string]string{"accounts": "60", "orders": "360", "order_items": "720", "events": "600", "documents": "60"} {
		require.Equal(t, want, pgtest.Value(t, conn, "SELECT count(*) FROM shop."+table), table)
	}
	require.Equal(t, "4", pgtest.Value(t, conn, "SELECT count(*) FROM shop.sales_by_state"))
	require.ErrorContains(t, small.Setup(bounded(t), conn), "make schema shop")
	require.Equal(t, "360", pgtest.Value(t, conn, "SELECT count(*) FROM shop.orders"))
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	w := begin(t, Config{DSN: shop(t), Scenario: small, Clients: 1, Rate: 50, Drivers: []Driver{Exec}})
	start := time.Now()
	require.NoError(t, w.AwaitEach(bounded(t), 10))
	require.GreaterOrEqual(t, time.Since(start), 9*20*time.Millisecond)
	require.GreaterOrEqual(t, w.Totals().Acknowledged, 10)
}

func TestAClientThatCannotConnect(t *testing.T) {
	t.Parallel()
	dsn := shop(t)
	for _, d := range []Driver{CacheStatement, PSQL} {
		_, err := Start(bounded(t), Config{DSN: dsn.WithUser("nobody_here", "wrong"), Scenario: small, Clients: 3,
			Drivers: []Driver{d}, PSQL: psqlPath(t)})
		require.ErrorContains(t, err, "password authentication failed", d)
		require.NotContains(t, err.Error(), "wrong")
	}
}

func TestAwaitEachNamesWhoIsLate(t *testing.T) {
	t.Parallel()
	dsn := shop(t)
	conn := pgtest.Conn(t, dsn)
	w := begin(t, Config{DSN: dsn, Scenario: small, Clients: 2, Drivers: []Driver{Exec}})
	require.NoError(t, w.AwaitEach(bounded(t), 1))
	pgtest.Exec(t, conn, "BEGIN; LOCK TABLE shop.ledger")
	ctx, cancel := context.WithTimeout(bounded(t), 300*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, w.AwaitEach(ctx, 100), "client")
	pgtest.Exec(t, conn, "COMMIT")
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Config{DSN: shop(t), Scenario: small, Clients: 1, Drivers: []Driver{Exec}}
	require.NoError(t, good.Validate())
	for says, harm := range map[string]func(*Config){
		"connection string": func(c *Config) { c.DSN = Config{}.DSN },
		"scenario":          func(c *Config) { c.Scenario = nil },
		"0 clients":         func(c *Config) { c.Clients = 0 },
		"rate":              func(c *Config) { c.Rate = -1 },
		"unknown driver":    func(c *Config) { c.Drivers = []Driver{"odbc"} },
		"path of psql":      func(c *Config) { c.Drivers = []Driver{PSQL} },
	} {
		c := good
		harm(&c)
		require.ErrorContains(t, c.Validate(), says)
	}
}

func TestStallsAround(t *testing.T) {
	t.Parallel()
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	op := func(client int, startMS, tookMS int) history.Operation {
		return history.Operation{Token: history.Token{Client: client},
			Slowest: history.Trip{Start: t0.Add(time.Duration(startMS) * time.Millisecond), Took: time.Duration(tookMS) * time.Millisecond}}
	}
	rep := Report{Operations: []history.Operation{op(1, 0, 90), op(1, 95, 20), op(1, 400, 300), op(2, 0, 250), op(3, 0, 5)}}
	stalls := rep.StallsAround(t0.Add(110*time.Millisecond), 10*time.Millisecond)
	require.Equal(t, []Stall{
		{Client: 2, Start: t0, Took: 250 * time.Millisecond},
		{Client: 1, Start: t0.Add(95 * time.Millisecond), Took: 20 * time.Millisecond},
	}, stalls)
	q := QuantilesOfStalls(stalls)
	require.Equal(t, Quantiles{P50: 20 * time.Millisecond, P99: 250 * time.Millisecond, Max: 250 * time.Millisecond, N: 2}, q)
	require.Equal(t, "p50 20ms, p99 250ms, max 250ms", q.String())
	require.Zero(t, QuantilesOf(nil))
}

func TestReportNamesErrors(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, Report{ErrorTexts: []string{"client 1: boom"}, Clients: []ClientReport{{Client: 1, Driver: PSQL}}}.Print(&b))
	require.Contains(t, b.String(), "error: client 1: boom")
}
