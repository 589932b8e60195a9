package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestTheProofOutlivesTheProgramAndTheSourceStaysClosed kills the program between the decision and the
// comparison, under load, and once more after it. Nothing has to be forced to finish, and the
// source takes no writes until that is asked for.
func TestTheProofOutlivesTheProgramAndTheSourceStaysClosed(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start("cutover.after_decision_commit=kill")
	p.awaitServing()
	w := startShop(t, p, 4)
	p.awaitFollowing()
	awaitEach(t, w, 3)
	p.ask(control.CutoverOptions{})
	require.Equal(t, -1, p.wait(), "the program is killed")

	p.start()
	equal := func(st control.Status) bool { return st.Verify.State == "equal" }
	st := p.await("both sides are proved equal", equal)
	require.Positive(t, st.Verify.TablesTotal)
	require.Equal(t, st.Verify.TablesTotal, st.Verify.TablesDone)
	require.Equal(t, "ended", st.Replication.State)
	awaitEach(t, w, 5)
	p.kill()
	p.start()
	again := p.await("the proof is remembered", equal)
	require.Equal(t, st.Verify, again.Verify)
	p.await("nothing refuses a finish", func(st control.Status) bool {
		return st.Phase == "on_target" && !slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return b.Code == "target_not_whole" || b.Code == "verify_running" })
	})

	out, code := p.ctl("finish")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "nothing was changed", "--yes")
	out, code = p.ctl("finish", "--yes")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "dropped source: replication slot crossfade_")
	require.Contains(t, out, "kept source: its fence")
	source := pgtest.Conn(t, s.source)
	_, err := source.Exec(context.Background(), "UPDATE shop.accounts SET owner = owner")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
	require.Contains(t, err.Error(), "was moved by Crossfade")
	require.Equal(t, "0", pgtest.Value(t, source, "SELECT count(*) FROM pg_publication"))
	require.Equal(t, "0", pgtest.Value(t, source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"))
	require.Equal(t, "finished", p.awaitServing().Phase)
	awaitEach(t, w, 3)

	out, code = p.ctl("finish", "--yes")
	require.Equal(t, 0, code, out)
	require.NotContains(t, out, "dropped source", "what is gone is not dropped twice")
	out, code = p.ctl("finish", "--yes", "--open-source")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "dropped source: schema crossfade")
	pgtest.Exec(t, source, "UPDATE shop.accounts SET owner = owner WHERE id = 1")
	load := stopClients(w)
	requirePlain(t, load, "nothing listens there") // while the program was dead
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}

// TestASourceThatWasKeptClosedIsOpenedByClean is the other way to open it, without the program.
func TestASourceThatWasKeptClosedIsOpenedByClean(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	pgtest.Exec(t, pgtest.Conn(t, s.source), "CREATE TABLE public.kept (id int PRIMARY KEY)")
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	p.cutover()
	p.awaitWhole()
	eventually(t, "it can be finished", func() bool {
		_, err := p.client.Finish(t.Context(), control.FinishOptions{})
		return err == nil
	})
	require.Equal(t, 0, p.stop())
	source := pgtest.Conn(t, s.source)
	_, err := source.Exec(t.Context(), "INSERT INTO public.kept VALUES (1)")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
	out, code := s.say(t, nil, "clean") // what a start needs goes, and the source stays closed
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "removed target: schema crossfade")
	require.Contains(t, out, "kept source: its fence")
	_, err = source.Exec(t.Context(), "INSERT INTO public.kept VALUES (1)")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "--force")
	out, code = s.say(t, nil, "clean", "--force")
	require.Equal(t, 0, code, out)
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)
	oneLine(t, out, "nothing to remove")
	users := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(users, []byte("one-value\n"), 0o600))
	for flag, wrong := range map[string]string{"--users": users, "--map-role": "app="} {
		out, code = s.say(t, nil, "check", flag+"="+wrong)
		require.Equal(t, 2, code, out)
		oneLine(t, out, wrong)
	}
	pgtest.Exec(t, source, "INSERT INTO public.kept VALUES (1)")
	s.requireNothingLeft(t)
}
