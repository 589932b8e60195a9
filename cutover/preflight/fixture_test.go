package preflight

import (
	"context"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// fixture is a fresh source and target, each with an owner of its own, and the
// superusers' sessions with which a test spoils them.
type fixture struct {
	sourceDSN, targetDSN     pg.DSN
	source, target           *pgx.Conn // the owner's, for preparing
	sourceAdmin, targetAdmin *pgx.Conn
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return fixtureOn(t, pgtest.Shared(t, pgtest.Source), pgtest.Shared(t, pgtest.Target))
}

func fixtureOn(t *testing.T, source, target *pgcluster.Cluster) *fixture {
	t.Helper()
	f := &fixture{sourceDSN: pgtest.Database(t, source), targetDSN: pgtest.Database(t, target)}
	pgtest.Exec(t, pgtest.Conn(t, target.AdminDSN("postgres")), "ALTER ROLE "+f.targetDSN.User()+" CREATEROLE")
	f.source, f.target = pgtest.Conn(t, f.sourceDSN), pgtest.Conn(t, f.targetDSN)
	f.sourceAdmin = pgtest.Conn(t, source.AdminDSN(f.sourceDSN.Database()))
	f.targetAdmin = pgtest.Conn(t, target.AdminDSN(f.targetDSN.Database()))
	return f
}

func (f *fixture) options() inquiry.Options {
	return inquiry.Options{
		Mode:       inquiry.Run,
		SourceHost: f.sourceDSN.Host(),
		TargetHost: f.targetDSN.Host(),
		OpenReplication: func(ctx context.Context) error {
			conn, err := pg.ConnectReplication(ctx, f.sourceDSN)
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
		OpenSource: func(ctx context.Context) (*pgx.Conn, error) {
			return pg.Connect(ctx, f.sourceDSN, pg.WithOwnSearchPath())
		},
		Logins: inquiry.Logins{TargetRole: f.targetDSN.User(), LetsIn: func(role string) bool { return role == f.sourceDSN.User() }},
		PgDumpMajor: func(ctx context.Context) (int, error) {
			b, err := pgcluster.Find()
			return b.Major, err
		},
	}
}

// preflight is one over sessions that are opened as the program does.
func (f *fixture) preflight(t *testing.T, change ...func(*inquiry.Options)) *Preflight {
	t.Helper()
	return &Preflight{f.pair(t, change...)}
}

// pair opens the sessions as the program does.
func (f *fixture) pair(t *testing.T, change ...func(*inquiry.Options)) *inquiry.Pair {
	t.Helper()
	o := f.options()
	for _, c := range change {
		c(&o)
	}
	var conns []*pgx.Conn
	for _, dsn := range []pg.DSN{f.sourceDSN, f.targetDSN} {
		conn, err := pg.Connect(t.Context(), dsn, pg.WithName("check"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		conns = append(conns, conn)
	}
	p, err := inquiry.New(conns[0], conns[1], o)
	require.NoError(t, err)
	return p
}

// ask runs one check, which must be completed.
func (f *fixture) ask(t *testing.T, name string, change ...func(*inquiry.Options)) []answer.Finding {
	t.Helper()
	for _, c := range f.preflight(t, change...).Checks() {
		if c.Name == name {
			found, err := c.Run(t.Context())
			require.NoError(t, err)
			for _, finding := range found {
				sound(t, finding)
			}
			return found
		}
	}
	t.Fatalf("no check is called %q in this mode", name)
	return nil
}

// A statement in a remedy, and that it is said where it is typed.
var (
	aStatement = regexp.MustCompile(`\b(ALTER|CREATE|DROP|GRANT|REVOKE|REINDEX|REFRESH|TRUNCATE|COMMIT PREPARED|SELECT) `)
	aPlace     = regexp.MustCompile(`\b(source|target|subscriber)\b`)
)

// sound fails unless a finding says what is wrong, what to do and where a statement is typed.
func sound(t *testing.T, f answer.Finding) {
	t.Helper()
	require.NotEmpty(t, f.Detail)
	if f.Severity != answer.Info {
		require.NotEmpty(t, f.Remedy, "%s: what to do", f.Code)
	}
	if aStatement.MatchString(f.Remedy) {
		require.Regexp(t, aPlace, f.Do(), "%s: where it is typed", f.Code)
	}
}

// typed runs the statements of remedies as they are printed, as somebody who may.
func (f *fixture) typed(t *testing.T, found ...answer.Finding) {
	t.Helper()
	for _, x := range found {
		require.NotEmpty(t, x.SQL, "%s: a statement", x.Code)
		require.Contains(t, x.Remedy, answer.OneLine(x.SQL))
		switch x.On {
		case answer.Source:
			pgtest.Exec(t, f.sourceAdmin, x.SQL)
		case answer.Target:
			pgtest.Exec(t, f.targetAdmin, x.SQL)
		default:
			t.Fatalf("%s: its statement is for no side", x.Code)
		}
	}
}

// seen is a finding without its words.
type seen struct {
	Severity     answer.Severity
	Code, Object string
}

func short(found []answer.Finding) []seen {
	out := []seen{}
	for _, f := range found {
		out = append(out, seen{f.Severity, f.Code, f.Object})
	}
	return out
}

func copyMode(o *inquiry.Options) { o.Mode = inquiry.Copy }
func resume(o *inquiry.Options)   { o.Resume = true }
