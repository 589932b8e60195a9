package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestSessionsThatCannotMove goes through the policies for a session with a
// temporary table: named, waited for, disconnected.
func TestSessionsThatCannotMove(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	awaitFence(t, s)
	temp, good := application(t, p, "0"), application(t, p, "0")
	pgtest.Exec(t, temp, "CREATE TEMP TABLE scratch (id int)")

	cutover := func(want int, args ...string) control.CutoverReport {
		t.Helper()
		var r control.CutoverReport
		out, code := p.ctl(append([]string{"cutover", "--json"}, args...)...)
		require.NoError(t, json.Unmarshal([]byte(lastLine(out)), &r), out) // after the steps
		require.Equal(t, want, code, "%+v", r)
		return r
	}
	var list []control.Session
	out, code := p.ctl("status", "--sessions", "--json")
	require.Zero(t, code)
	require.NoError(t, json.Unmarshal([]byte(out), &list), out)
	require.Len(t, list, 2)
	require.Equal(t, "hold", list[0].Verdict)
	require.Equal(t, "temp_objects", list[0].Reasons[0].Code)
	require.Equal(t, "app", list[1].ApplicationName)
	require.Equal(t, "green", list[1].Verdict)
	out, code = p.ctl("status", "--sessions")
	require.Zero(t, code)
	require.Regexp(t, `(?m)^\d+ +127\.0\.0\.1:\d+ +`+s.source.User()+` +.* idle +\d+s +hold +temporary objects: .*"scratch"$`, out)
	require.Len(t, strings.Split(strings.TrimSpace(out), "\n"), 3, "one line a session, under a head")

	for _, args := range [][]string{{}, {"--dry-run"}, {"--unmovable=wait", "--attempts=2", "--drain-timeout=300ms"}} {
		out, code := p.ctl(append([]string{"cutover"}, args...)...)
		require.Equal(t, 1, code, out)
		require.Equal(t, 1, strings.Count(out, `"scratch"`), "%v tells it once:\n%s", args, out)
		require.Equal(t, 1, strings.Count(out, "cannot be moved"), "%v tells it once:\n%s", args, out)
	}
	r := cutover(1)
	require.Equal(t, control.OutcomeAborted, r.Outcome)
	require.Contains(t, r.Reason, `"scratch"`)

	r = cutover(1, "--unmovable=wait", "--attempts=2", "--drain-timeout=300ms")
	require.Equal(t, control.OutcomeAborted, r.Outcome)
	require.Contains(t, r.Reason, `"scratch"`)
	require.Contains(t, r.Reason, "tried 2 times")
	pgtest.Exec(t, temp, "INSERT INTO scratch VALUES (1)")

	r = cutover(0, "--rehearse", "--unmovable=disconnect", "--drain-timeout=5s")
	require.Zero(t, r.Disconnected)
	require.Len(t, r.Unmovable, 1)
	pgtest.Exec(t, temp, "INSERT INTO scratch VALUES (2)")

	r = cutover(0, "--unmovable=disconnect", "--drain-timeout=5s")
	require.Equal(t, 1, r.Disconnected)
	require.Len(t, r.Unmovable, 1)
	require.Contains(t, r.Unmovable[0], `"scratch"`)
	require.Zero(t, r.ClientErrors)
	_, err := temp.Exec(t.Context(), "SELECT 1")
	require.Equal(t, pg.CodeAdminShutdown, pg.Code(err))
	require.Equal(t, s.source.User(), pgtest.Value(t, good, "SELECT current_user"))
	require.Equal(t, 0, p.stop())
}
