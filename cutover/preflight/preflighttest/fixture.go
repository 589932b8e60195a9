package preflighttest

import (
	"context"
	"strings"
	"testing"

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
