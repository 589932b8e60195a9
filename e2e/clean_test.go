package e2e_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster/pgtest"
)

// TestClean abandons a run at several points. Clean leaves nothing, and a new run
// works.
func TestClean(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"schema.restored=kill@4", "copy.chunk=kill@3", "phase.copied=kill", "following", "cutover.draining=kill", "cutover.before_decision_commit=kill"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && point != "following" {
				t.Skip("with -short only one point is tried")
			}
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
