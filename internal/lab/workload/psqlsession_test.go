package workload

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// Both kinds of sessions give the same answers.
func TestSessionsAgree(t *testing.T) {
	t.Parallel()
	for _, d := range Drivers() {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			ctx := bounded(t)
			dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
			s := open(t, ctx, d, dsn)
			defer s.close(ctx)

			rows, err := s.query(ctx, sql("SELECT $1::bigint - 1, $2::text, $3::int[] = '{1,2}', count(*) FROM generate_series(1, $4::int)",
				int64(-5), `a'b\c $1 :x`, "{1,2}", int64(3)))
			require.NoError(t, err)
			want := [][]string{{"-6", `a'b\c $1 :x`, "true", "3"}}
			if d == PSQL {
				want[0][2] = "t"
			}
			require.Equal(t, want, rows)

			_, err = s.query(ctx, sql("SELECT 1 / $1::int", int64(0)))
			require.Equal(t, "22012", pg.Code(err))
			require.True(t, refused(err))
			require.ErrorContains(t, err, "division by zero")
			require.False(t, s.lost())

			for _, text := range []string{"CREATE TABLE t (a int)", "BEGIN", "INSERT INTO t VALUES (1)"} {
				_, err = s.query(ctx, sql(text))
				require.NoError(t, err)
			}
			tag, err := s.commit(ctx)
			require.NoError(t, err)
			require.Equal(t, "COMMIT", tag)

			_, err = s.query(ctx, sql("BEGIN"))
			require.NoError(t, err)
			_, err = s.query(ctx, sql("SELECT nonsense"))
			require.Error(t, err)
			tag, err = s.commit(ctx)
			if err == nil { // pgx makes an error of it
				require.Equal(t, "ROLLBACK", tag)
			}

			rows, err = s.burst(ctx, []statement{sql("INSERT INTO t VALUES ($1::int)", int64(2)), sql("INSERT INTO t VALUES ($1::int)", int64(3)), sql("SELECT count(*) FROM t")})
			require.NoError(t, err)
			require.Equal(t, [][]string{{"3"}}, rows)
			_, err = s.burst(ctx, []statement{sql("INSERT INTO t VALUES ($1::int)", int64(4)), sql("SELECT 1 / (count(*) - 4) FROM t")})
			require.Equal(t, "22012", pg.Code(err))
			rows, err = s.query(ctx, sql("SELECT count(*) FROM t"))
			require.NoError(t, err)
			require.Equal(t, [][]string{{"3"}}, rows, "a burst is one transaction")

			_, err = s.query(ctx, sql("SELECT pg_terminate_backend(pg_backend_pid())"))
			require.Error(t, err)
			require.False(t, refused(err))
			if !s.lost() { // psql tells only at its next command
				_, err = s.query(ctx, sql("SELECT 1"))
				require.Error(t, err)
			}
			require.True(t, s.lost())
			_, err = s.query(ctx, sql("SELECT 1"))
			require.Error(t, err)
		})
	}
}

func open(t *testing.T, ctx context.Context, d Driver, dsn pg.DSN) session {
	t.Helper()
	var s session
	var err error
	if d == PSQL {
		s, err = openPSQL(ctx, dsn, psqlPath(t), "test")
	} else {
		s, err = openPGX(ctx, dsn, map[Driver]pgx.QueryExecMode(modes)[d], "test")
	}
	require.NoError(t, err)
	return s
}

func TestInterpolate(t *testing.T) {
	t.Parallel()
	require.Equal(t, `SELECT (1), 'it''s', (-10)`, interpolate(sql("SELECT $1, $2, $3", int64(1), "it's", int64(-10))))
	args := make([]any, 10)
	for i := range args {
		args[i] = int64(i)
	}
	require.Equal(t, "(0) (9)", interpolate(sql("$1 $10", args...)))
}
