// Package preflighttest gives tests of a preflight a source and a target on real servers, roles on
// both sides, and findings reduced to their codes. Production code never imports it.
package preflighttest

import (
	"context"
	"crypto/rand"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// Fixture is a fresh source and target, each with an owner of its own, and the
// superusers' sessions with which a test spoils them.
type Fixture struct {
	SourceDSN, TargetDSN     pg.DSN
	Source, Target           *pgx.Conn // the owner's, for preparing
	SourceAdmin, TargetAdmin *pgx.Conn
}

// New makes both databases on the servers that tests share.
func New(t *testing.T) *Fixture {
	t.Helper()
	return On(t, pgtest.Shared(t, pgtest.Source), pgtest.Shared(t, pgtest.Target))
}

// On makes them on two servers.
func On(t *testing.T, source, target *pgcluster.Cluster) *Fixture {
	t.Helper()
	f := &Fixture{SourceDSN: pgtest.Database(t, source), TargetDSN: pgtest.Database(t, target)}
	pgtest.Exec(t, pgtest.Conn(t, target.AdminDSN("postgres")), "ALTER ROLE "+f.TargetDSN.User()+" CREATEROLE")
	f.Source, f.Target = pgtest.Conn(t, f.SourceDSN), pgtest.Conn(t, f.TargetDSN)
	f.SourceAdmin = pgtest.Conn(t, source.AdminDSN(f.SourceDSN.Database()))
	f.TargetAdmin = pgtest.Conn(t, target.AdminDSN(f.TargetDSN.Database()))
	return f
}

// Options are those of a run from one to the other.
func (f *Fixture) Options() inquiry.Options {
	return inquiry.Options{
		Mode:       inquiry.Run,
		SourceHost: f.SourceDSN.Host(),
		TargetHost: f.TargetDSN.Host(),
		OpenReplication: func(ctx context.Context) error {
			conn, err := pg.ConnectReplication(ctx, f.SourceDSN)
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
		OpenSource: func(ctx context.Context) (*pgx.Conn, error) {
			return pg.Connect(ctx, f.SourceDSN, pg.WithOwnSearchPath())
		},
		Logins: inquiry.Logins{TargetRole: f.TargetDSN.User(), LetsIn: func(role string) bool { return role == f.SourceDSN.User() }},
		PgDumpMajor: func(ctx context.Context) (int, error) {
			b, err := pgcluster.Find()
			return b.Major, err
		},
	}
}

// Changed are the Options with changes.
func (f *Fixture) Changed(change ...func(*inquiry.Options)) inquiry.Options {
	o := f.Options()
	for _, c := range change {
		c(&o)
	}
	return o
}

// Open opens the sessions as the program does; they end with the test.
func (f *Fixture) Open(t *testing.T) (source, target *pgx.Conn) {
	t.Helper()
	var conns []*pgx.Conn
	for _, dsn := range []pg.DSN{f.SourceDSN, f.TargetDSN} {
		conn, err := pg.Connect(t.Context(), dsn, pg.WithName("check"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		conns = append(conns, conn)
	}
	return conns[0], conns[1]
}

// Pair is what a check gets, with sessions of its own.
func (f *Fixture) Pair(t *testing.T, change ...func(*inquiry.Options)) *inquiry.Pair {
	t.Helper()
	source, target := f.Open(t)
	p, err := inquiry.New(source, target, f.Changed(change...))
	require.NoError(t, err)
	return p
}

// Check is how a check is asked.
type Check func(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error)

// Ask asks one check, which must be completed.
func (f *Fixture) Ask(t *testing.T, check Check, change ...func(*inquiry.Options)) []answer.Finding {
	t.Helper()
	found, err := check(t.Context(), f.Pair(t, change...))
	require.NoError(t, err)
	for _, x := range found {
		Sound(t, x)
	}
	return found
}

// Typed runs the statements of remedies as they are printed, as someone who may.
func (f *Fixture) Typed(t *testing.T, found ...answer.Finding) {
	t.Helper()
	for _, x := range found {
		require.NotEmpty(t, x.SQL, "%s: a statement", x.Code)
		require.Contains(t, x.Remedy, answer.OneLine(x.SQL))
		switch x.On {
		case answer.Source:
			pgtest.Exec(t, f.SourceAdmin, x.SQL)
		case answer.Target:
			pgtest.Exec(t, f.TargetAdmin, x.SQL)
		default:
			t.Fatalf("%s: its statement is for no side", x.Code)
		}
	}
}

// Encoded has a fresh database of the source's cluster in another encoding be the source.
func (f *Fixture) Encoded(t *testing.T, encoding string) {
	t.Helper()
	c := pgtest.Shared(t, pgtest.Source)
	other := f.SourceDSN.Database() + "_" + strings.ToLower(encoding)
	pgtest.DatabaseAs(t, c, other, f.SourceDSN.User(), "ENCODING '"+encoding+"' LOCALE 'C'")
	f.SourceDSN = f.SourceDSN.WithDatabase(other)
	f.Source, f.SourceAdmin = pgtest.Conn(t, f.SourceDSN), pgtest.Conn(t, c.AdminDSN(other))
}

// Ordinary is a schema that nothing is wrong with.
const Ordinary = `
	CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
	CREATE TABLE payment (id int, day date, amount numeric, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	CREATE TABLE payment_2026 PARTITION OF payment FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
	CREATE VIEW names AS SELECT name FROM customer;
	CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM customer;
	CREATE EXTENSION pg_trgm`

// OIDs are the numbers of relations of the source, by their names.
func OIDs(t *testing.T, conn *pgx.Conn, names ...string) []uint32 {
	t.Helper()
	var list []uint32
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT array_agg(n::regclass::oid) FROM unnest($1::text[]) n`, names).Scan(&list))
	return list
}

// Major is the version of the servers.
func Major(t *testing.T) int {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	return b.Major
}

// RoleFixture is a pair of databases with roles of its own on both sides, whose names begin with
// Prefix.
type RoleFixture struct {
	*Fixture
	Prefix string
}

// NewRoleFixture makes both databases, with no roles yet.
func NewRoleFixture(t *testing.T) *RoleFixture {
	t.Helper()
	h := &RoleFixture{Fixture: New(t), Prefix: "l" + strings.ToLower(rand.Text()[:8]) + "_"}
	pgtest.Exec(t, h.TargetAdmin, "GRANT CONNECT ON DATABASE "+h.TargetDSN.Database()+" TO PUBLIC")
	t.Cleanup(func() {
		h.sweep(t, pgtest.Shared(t, pgtest.Source), h.SourceDSN)
		h.sweep(t, pgtest.Shared(t, pgtest.Target), h.TargetDSN)
	})
	return h
}

// sweep drops the roles of the fixture, also those that a remedy has made or named otherwise.
func (h *RoleFixture) sweep(t *testing.T, c *pgcluster.Cluster, dsn pg.DSN) {
	t.Helper()
	ctx := context.Background()
	conn, err := pg.Connect(ctx, c.AdminDSN("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)", h.Prefix)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, name := range names {
		pgtest.DropRole(t, c, dsn.Database(), pg.QuoteIdent(name))
	}
}

// Role makes a role of the fixture on a side, on the source with the right to connect.
func (h *RoleFixture) Role(t *testing.T, name, onSource, onTarget string) string {
	t.Helper()
	name = h.Prefix + name
	if onSource != "" {
		pgtest.Exec(t, h.SourceAdmin, "CREATE ROLE "+pg.QuoteIdent(name)+" "+onSource+"; GRANT CONNECT ON DATABASE "+h.SourceDSN.Database()+" TO "+pg.QuoteIdent(name))
	}
	if onTarget != "" {
		pgtest.Exec(t, h.TargetAdmin, "CREATE ROLE "+pg.QuoteIdent(name)+" "+onTarget)
	}
	return name
}

// CopyMode asks for a copy.
func CopyMode(o *inquiry.Options) { o.Mode = inquiry.Copy }

// Resume asks for the checks of a run that is continued.
func Resume(o *inquiry.Options) { o.Resume = true }

// AnyAge has each transaction be a long one.
func AnyAge(o *inquiry.Options) { o.LongTransaction = time.Nanosecond }

// Seen is a finding without its text: its severity, its code and its object.
type Seen [3]any

// Short reduces findings to severity, code and object.
func Short(found []answer.Finding) []Seen {
	out := []Seen{}
	for _, f := range found {
		out = append(out, Seen{f.Severity, f.Code, f.Object})
	}
	return out
}

// A statement in a remedy, and that it is said where it is typed.
var (
	aStatement = regexp.MustCompile(`\b(ALTER|CREATE|DROP|GRANT|REVOKE|REINDEX|REFRESH|TRUNCATE|COMMIT PREPARED|SELECT) `)
	aPlace     = regexp.MustCompile(`\b(source|target|subscriber)\b`)
)

// Sound fails unless a finding says what is wrong, what to do and where a statement is typed.
func Sound(t *testing.T, f answer.Finding) {
	t.Helper()
	require.NotEmpty(t, f.Detail)
	if f.Severity != answer.Info {
		require.NotEmpty(t, f.Remedy, "%s: what to do", f.Code)
	}
	if aStatement.MatchString(f.Remedy) {
		require.Regexp(t, aPlace, f.Do(), "%s: where it is typed", f.Code)
	}
}
