package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// copyKilled runs copy with a failpoint until it is killed.
func copyKilled(t *testing.T, s *sides, point string, flags ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"copy"}, flags...)...)
	cmd.Env = append(append(os.Environ(), s.env()...), "CROSSFADE_FAILPOINT="+point)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, -1, cmd.ProcessState.ExitCode(), "%s", out)
}

// TestCopy copies a database once, from a role that may not replicate, is killed
// and run again while the source is written.
func TestCopy(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"", "schema.restored=kill@2", "schema.restored=kill@4", "copy.chunk=kill@4", "phase.copied=kill", "phase.indexed=kill"} {
		t.Run("killed at "+point, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "killed at copy.chunk=kill@4")
			s := newSides(t)
			loadShop(t, s)
			pgtest.Exec(t, adminOf(t, s.sourceCluster, "postgres"), "ALTER ROLE "+s.source.User()+" NOREPLICATION")
			app := pgtest.Conn(t, s.source)
			// A pair of rows in one transaction: the copy has both or none.
			pair := func() error {
				_, err := app.PgConn().Exec(context.Background(), `BEGIN; INSERT INTO shop.accounts (owner, balance) VALUES ('pair', 1000);
					INSERT INTO shop.documents (number, title, body) SELECT coalesce(max(number), 0) + 1, 'pair', '' FROM shop.documents; COMMIT`).ReadAll()
				return err
			}
			require.NoError(t, pair())
			if point != "" {
				copyKilled(t, s, point)
				out, code := s.say(t, nil, "run")
				require.Equal(t, 1, code, out)
				oneLine(t, out, "copy")
			}
			writer := keepBusy([]*pgx.Conn{app}, func(context.Context, *pgx.Conn) error { return pair() })
			t.Cleanup(func() { writer.stop(); writer.wg.Wait() })
			out, code := s.say(t, nil, "copy")
			require.Positive(t, writer.end(t))
			require.Equal(t, 0, code, out)
			require.NotContains(t, out, "ERR")
			target := pgtest.Conn(t, s.target)
			require.Equal(t, pgtest.Value(t, target, "SELECT count(*) FROM shop.accounts WHERE owner = 'pair'"),
				pgtest.Value(t, target, "SELECT count(*) FROM shop.documents WHERE title = 'pair'"), "one snapshot")
			pgtest.Exec(t, target, "INSERT INTO shop.accounts (owner, balance) VALUES ('after', 1)")
			pgtest.Exec(t, target, "INSERT INTO shop.orders (account_id, total) VALUES (1, 1)")
			requireSameSchema(t, s.dump(t, s.source), s.dump(t, s.target), "source and target")
			s.requireNothingLeft(t)
			out, code = s.say(t, nil, "copy", "--log-level=error")
			require.Equal(t, 1, code, out)
			refusedFor(t, out, "already has")
			s.requireNothingLeft(t)
		})
	}
}

// Without a stream nothing brings a table from one moment to another: tables of an
// earlier attempt stay only where that is asked for, and the program says so.
func TestCopyIsOfOneMomentUnlessAskedOtherwise(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep %v", keep), func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "keep true") // TestCopy copies again
			s := newSides(t)
			app := pgtest.Conn(t, s.source)
			pgtest.Exec(t, app, `CREATE TABLE big (id int PRIMARY KEY, v text); INSERT INTO big SELECT i, repeat('b', 500) FROM generate_series(1, 5000) i;
				CREATE TABLE small (id int PRIMARY KEY, v text); INSERT INTO small SELECT i, repeat('s', 500) FROM generate_series(1, 4500) i`)
			// big is copied first, and its record says so before small is begun.
			copyKilled(t, s, "copy.chunk=kill@2", "--jobs=1")
			target := pgtest.Conn(t, s.target)
			require.Equal(t, "big copied, small copying", pgtest.Value(t, target, "SELECT string_agg(rel || ' ' || state, ', ' ORDER BY rel) FROM crossfade.relation"))
			pgtest.Exec(t, app, "UPDATE big SET v = 'later'; UPDATE small SET v = 'later'")
			args := []string{"copy"}
			if keep {
				args = append(args, "--keep-copied")
			}
			out, code := s.say(t, nil, args...)
			require.Equal(t, 0, code, out)
			require.Equal(t, "5000", pgtest.Value(t, target, "SELECT count(*) FROM big"))
			later := pgtest.Value(t, target, "SELECT (SELECT count(*) FROM big WHERE v = 'later') || ' ' || (SELECT count(*) FROM small WHERE v = 'later')")
			if keep {
				// What landed of small is whole as well, though nobody wrote down that it is.
				require.Equal(t, "0 0", later)
				require.Contains(t, out, "not of one moment")
			} else {
				require.Equal(t, "5000 4500", later)
				require.Contains(t, out, "copied again, so that all are of one moment")
			}
			s.requireNothingLeft(t)
		})
	}
}

// An abandoned copy is cleaned like an abandoned run.
func TestCleanOfACopy(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	pgtest.Exec(t, adminOf(t, s.sourceCluster, "postgres"), "ALTER ROLE "+s.source.User()+" NOREPLICATION")
	copyKilled(t, s, "phase.copied=kill")
	out, code := s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "TABLE shop.orders")
	s.requireNothingLeft(t)
	out, code = s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
}
