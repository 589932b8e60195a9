package pg_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestLSN(t *testing.T) {
	t.Parallel()
	l, err := pg.ParseLSN("16/B374D848")
	require.NoError(t, err)
	require.Equal(t, pg.LSN(0x16B374D848), l)
	require.Equal(t, "16/B374D848", l.String())
	for _, bad := range []string{"", "16", "16/", "/1", "1/1/1", "G/0", "100000000/0"} {
		_, err := pg.ParseLSN(bad)
		require.Error(t, err, bad)
	}
}

// Two snapshots of one history: the later one sees more, unless a commit is held up.
func TestSnapshotContains(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (pg.Snapshot, map[uint64]bool) {
			xmin := rapid.Uint64Range(3, 20).Draw(t, name+" xmin")
			s := pg.Snapshot{Xmin: xmin, Xmax: xmin + rapid.Uint64Range(0, 12).Draw(t, name+" span")}
			for x := s.Xmin; x < s.Xmax; x++ {
				if rapid.Bool().Draw(t, name+" runs") {
					s.Xip = append(s.Xip, x)
				}
			}
			seen := map[uint64]bool{}
			for x := uint64(3); x < 40; x++ {
				seen[x] = s.Visible(x)
			}
			return s, seen
		}
		a, seenA := draw("a")
		b, seenB := draw("b")
		want := true
		for x, seen := range seenB {
			want = want && (!seen || seenA[x])
		}
		if got := a.Contains(b); got != want {
			t.Fatalf("%s contains %s: %v", a, b, got)
		}
	})
}

func TestSnapshotVisible(t *testing.T) {
	t.Parallel()
	s, err := pg.ParseSnapshot("726:730:729,727")
	require.NoError(t, err)
	for xid, want := range map[uint64]bool{1: true, 725: true, 726: true, 727: false, 728: true, 729: false, 730: false, 731: false} {
		require.Equal(t, want, s.Visible(xid), xid)
	}
	require.Equal(t, "726:730:727,729", s.String())
	for _, bad := range []string{"", "1:2", "2:1:1", "a:2:", "1:2:5", "1:9:x"} {
		_, err := pg.ParseSnapshot(bad)
		require.Error(t, err, bad)
	}
	s, err = pg.ParseSnapshot("793:791:") // of a slot
	require.NoError(t, err)
	require.Equal(t, "793:793:", s.String())
	require.True(t, s.Visible(792))
	require.False(t, s.Visible(793))
}

func TestWidenIsTheNearest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		full := rapid.Uint64Range(3, 1<<40).Draw(t, "xid")
		off := rapid.Int64Range(-(1<<31)+1, 1<<31-1).Draw(t, "distance")
		xmax := int64(full) + off
		if xmax < 3 {
			t.Skip()
		}
		s := pg.Snapshot{Xmin: uint64(xmax), Xmax: uint64(xmax)}
		require.Equal(t, full, s.Widen(uint32(full)))
	})
}

func TestDSNHidesItsPassword(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"postgresql://bob:s3cr%40t@db.example:5433/shop?sslmode=disable&application_name=x",
		`host=db.example port=5433 user=bob password='s3cr@t' dbname=shop sslmode=disable`,
	} {
		d, err := pg.ParseDSN(s)
		require.NoError(t, err)
		require.Equal(t, "s3cr@t", d.Password())
		require.Equal(t, "bob@db.example:5433/shop", d.String())
		info, env := d.LibpqEnv()
		require.NotContains(t, info, "s3cr")
		require.Equal(t, []string{"PGPASSWORD=s3cr@t"}, env)
		back, err := pg.ParseDSN(info)
		require.NoError(t, err)
		require.Equal(t, d.Redacted(), back.Redacted())
		other := d.WithDatabase(`we'ird`).WithUser("eve", `p\w`)
		require.Equal(t, "eve@db.example:5433/we'ird", other.Redacted())
		info, env = other.LibpqEnv()
		require.NotContains(t, info, "s3cr")
		require.Equal(t, []string{`PGPASSWORD=p\w`}, env)
		require.Contains(t, info, `dbname='we\'ird'`)
	}
	for _, bad := range []string{"", "postgresql://bob:s3cret@host:port/db", "host=a port=s3cret password=s3cret", "postgresql://bob:s3cret@h/db?sslmode=s3cret2"} {
		_, err := pg.ParseDSN(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "s3cret@")
		require.NotContains(t, strings.ReplaceAll(err.Error(), "s3cret2", ""), "password=s3cret")
	}
}

func TestConnectPinsTheSession(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	const limits = `SELECT coalesce(string_agg(name || '=' || setting, ' ' ORDER BY name), '') FROM pg_catalog.pg_settings
		WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')
		AND setting <> '0'`
	for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"} {
		if pgtest.Value(t, admin, "SELECT count(*) FROM pg_settings WHERE name = $1", name) == "1" {
			pgtest.Exec(t, admin, "ALTER DATABASE "+pg.QuoteIdent(dsn.Database())+" SET "+name+" = '20min'")
		}
	}
	conn := pgtest.Conn(t, dsn, pg.WithKey(`a b\c`), pg.WithName("probe"))
	require.Empty(t, pgtest.Value(t, conn, limits), "time limits of a session")
	require.Equal(t, `a b\c`, pgtest.Value(t, conn, "SELECT current_setting('crossfade.key')"))
	require.Equal(t, "crossfade probe", pgtest.Value(t, conn, "SELECT current_setting('application_name')"))
	require.Equal(t, "UTC", pgtest.Value(t, conn, "SELECT current_setting('TimeZone')"))
	named := mustDSN(t, mustInfo(dsn)+" password='"+dsn.Password()+"' application_name='of the team'")
	require.Equal(t, "crossfade probe (of the team)", pgtest.Value(t, pgtest.Conn(t, named, pg.WithName("probe")), "SELECT current_setting('application_name')"))

	repl, err := pg.ConnectReplication(context.Background(), dsn)
	require.NoError(t, err)
	left, err := repl.Exec(context.Background(), limits).ReadAll()
	require.NoError(t, err)
	require.Empty(t, string(left[0].Rows[0][0]), "time limits of a walsender")
	res, err := repl.Exec(context.Background(), "IDENTIFY_SYSTEM").ReadAll()
	require.NoError(t, err)
	require.Equal(t, dsn.Database(), string(res[0].Rows[0][3]))
	require.NoError(t, repl.Close(context.Background()))
}

func TestConnectErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	for want, d := range map[string]pg.DSN{
		"check the password":       dsn.WithUser(dsn.User(), "hunter2wrong"),
		"create the database":      dsn.WithDatabase("nowhere"),
		"nothing listens there":    mustDSN(t, "host=127.0.0.1 port=1 user=a password=hunter2wrong dbname=b sslmode=disable"),
		"check its spelling":       mustDSN(t, "host=no-such-host.invalid user=a dbname=b sslmode=disable"),
		"the server offers no TLS": mustDSN(t, strings.Replace(mustInfo(dsn), "sslmode='disable'", "sslmode='require'", 1)),
	} {
		_, err := pg.Connect(ctx, d)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2wrong")
		require.NotContains(t, err.Error(), "\n")
	}
}

func mustInfo(d pg.DSN) string {
	info, _ := d.LibpqEnv()
	return info
}

func mustDSN(t *testing.T, s string) pg.DSN {
	t.Helper()
	d, err := pg.ParseDSN(s)
	require.NoError(t, err)
	return d
}

func TestQuotesAreReadBackAsGiven(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	for _, s := range []string{"plain", `it's`, `back\slash`, `"`, "new\nline", "ünï", `\'`, ""} {
		for _, scs := range []string{"on", "off"} {
			pgtest.Exec(t, conn, "SET standard_conforming_strings = "+scs)
			var got string
			require.NoError(t, conn.QueryRow(context.Background(), "SELECT "+pg.QuoteLiteral(s), pgx.QueryExecModeExec).Scan(&got))
			require.Equal(t, s, got)
		}
		if s != "" {
			var got string
			require.NoError(t, conn.QueryRow(context.Background(), "SELECT 1 AS "+pg.QuoteIdent(s)).Scan(new(int)))
			rows, err := conn.Query(context.Background(), "SELECT 1 AS "+pg.QuoteIdent(s))
			require.NoError(t, err)
			got = rows.FieldDescriptions()[0].Name
			rows.Close()
			require.Equal(t, s, got)
		}
	}
}

func TestExtendName(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a_filled", pg.ExtendName("a", "_filled"))
	long := pg.ExtendName(strings.Repeat("é", 40), "_filled") // of two bytes each
	require.Equal(t, strings.Repeat("é", 28)+"_filled", long)
	require.Len(t, pg.ExtendName(strings.Repeat("a", 70), "_x"), 63)
}
