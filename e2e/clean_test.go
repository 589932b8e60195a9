package e2e_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestClean abandons a run at several points. Clean leaves nothing, and a new run
// works.
func TestClean(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"schema.restored=kill@4", "copy.chunk=kill@3", "phase.copied=kill", "following", "cutover.draining=kill", "cutover.before_decision_commit=kill"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "following")
			s := newSides(t)
			loadShop(t, s)
			before := s.dump(t, s.source)
			p := newProcess(t, s)
			switch {
			case point == "following":
				p.start()
				p.awaitFollowing()
				out, code := s.say(t, nil, "clean")
				require.Equal(t, 1, code, "a daemon leads: %s", out)
				oneLine(t, out, "another Crossfade process")
				said, code := s.say(t, nil, "check")
				require.Equal(t, 1, code, said)
				require.Contains(t, said, "crossfade status shows it")
				p.kill()
				said, _ = s.say(t, nil, "check")
				require.Equal(t, 1, strings.Count(said, "left_over_run"), "it is told once, of both sides: %s", said)
				require.Contains(t, said, "source and target hold run")
				require.Contains(t, said, "crossfade run --source DSN --target DSN continues it")
				for _, consequence := range []string{"target_not_empty", "login_", "DROP"} {
					require.NotContains(t, said, consequence, "of what the run has made")
				}
				command := regexp.MustCompile(`crossfade (clean) --source DSN --target DSN`).FindStringSubmatch(said)
				require.NotNil(t, command, said)
				out, code = s.say(t, nil, command[1])
				require.Equal(t, 0, code, out)
				said, _ = s.say(t, nil, "check")
				require.NotContains(t, said, "left_over_run", "the remedy helps")
				p.start()
				p.awaitFollowing()
				p.kill()
			case strings.HasPrefix(point, "cutover."):
				p.start(point)
				p.awaitFollowing()
				p.ask(control.CutoverOptions{})
				require.Equal(t, -1, p.wait(), "the program is killed")
			default:
				p.start(point)
				require.Equal(t, -1, p.wait(), "the program is killed")
			}
			out, code := s.say(t, nil, "clean")
			require.Equal(t, 0, code, out)
			for _, object := range []string{"source: replication slot crossfade_", "source: publication crossfade", "source: schema crossfade", "target: schema crossfade", "TABLE shop.orders"} {
				require.Contains(t, out, object)
			}
			first, _, _ := strings.Cut(out, "\nremoved ")
			require.Contains(t, first, "to be removed from the source: what run ", "it is said before it is done")
			require.Contains(t, first, "to be removed from the target: all that run ")
			if point == "following" {
				require.Regexp(t, `in \d+ tables \([0-9]+ .B\): .*shop\.orders`, first)
			}
			s.requireNothingLeft(t)
			requireSameSchema(t, before, s.dump(t, s.source), "the source before and after")
			require.Equal(t, "0", pgtest.Value(t, pgtest.Conn(t, s.target), `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE n.nspname !~ '^(pg_|information_schema)'`), "the target is empty again")
			pgtest.Exec(t, pgtest.Conn(t, s.source), "UPDATE shop.accounts SET owner = owner WHERE id = 1")
			out, code = s.say(t, nil, "clean")
			require.Equal(t, 0, code, out)
			p.start()
			p.awaitFollowing()
			p.cutover()
			p.finish()
			require.Equal(t, 0, p.stop())
			s.requireNothingLeft(t)
		})
	}
}

func TestCleanOfADecidedRun(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start("cutover.after_decision_commit=kill")
	p.awaitFollowing()

	_, err := p.client.Finish(t.Context(), control.FinishOptions{})
	var refused *control.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, control.CodeRefused, refused.Code)
	require.Contains(t, err.Error(), "source is still active")

	p.ask(control.CutoverOptions{})
	require.Equal(t, -1, p.wait(), "the program is killed")
	out, code := s.say(t, nil, "clean")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "finish", "--force")
	_, err = pgtest.Conn(t, s.source).Exec(context.Background(), "UPDATE shop.accounts SET owner = owner")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err), "the fence stands")
	out, code = s.say(t, nil, "clean", "--force")
	require.Equal(t, 0, code, out)
	s.requireNothingLeft(t)
	require.NotEqual(t, "0", pgtest.Value(t, pgtest.Conn(t, s.target), "SELECT count(*) FROM shop.orders"), "the target keeps what it has")
}
