package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What the target can get in no other way is told once for each cause, and goes when the run is started over as the
// remedies print it.
func TestWhatOnlyStartingOverHelpsIsGoneAfterIt(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	c := tablesOf(t, s, "kept", "keyless", "readded", "rewritten", "touched", "gone")
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	for _, sql := range []string{"ALTER TABLE public.keyless DROP CONSTRAINT keyless_pk", "ALTER PUBLICATION crossfade DROP TABLE public.readded", "ALTER PUBLICATION crossfade ADD TABLE ONLY public.readded",
		"ALTER TABLE public.rewritten ALTER v TYPE text USING v || '!'", "DROP TABLE public.gone"} {
		pgtest.Exec(t, c, sql)
	}
	target := pgtest.Conn(t, s.target)
	for _, sql := range []string{"ALTER TABLE public.touched DISABLE TRIGGER " + journal.FenceTrigger, "ALTER TABLE public.touched ENABLE ALWAYS TRIGGER " + journal.FenceTrigger, journal.OpenFence, journal.ShutFence} {
		pgtest.Exec(t, target, sql)
	}
	causes := map[string]string{"no_replica_identity": "public.keyless", "publication_changed": "public.readded", "rows_not_provable": "public.rewritten", "not_followed": "public.gone",
		"target_fence_touched": "public.touched", "target_fence_open": "crossfade.fence()"}
	st := p.await("each is told", func(st control.Status) bool {
		for code, what := range causes {
			if _, ok := blockerOf(st, code, what); !ok {
				return false
			}
		}
		return strings.Contains(fmt.Sprint(st.Blockers), "keyless was taken out")
	})
	over := "stop crossfade run, crossfade clean, crossfade run"
	for code, what := range causes {
		var told int
		for _, b := range st.Blockers {
			if b.Code == code {
				told++
				require.Contains(t, b.Remedy, "start over: "+over, code)
			}
		}
		require.Equal(t, 1, told, "%s of %s: %+v", code, what, st.Blockers)
	}
	b, _ := blockerOf(st, "no_replica_identity", "public.keyless")
	_, sql, _ := strings.Cut(b.Remedy, "or ALTER")
	sql, _, _ = strings.Cut("ALTER"+sql, "; then ")
	require.Equal(t, "ALTER TABLE "+pg.Name{Schema: "public", Name: "keyless"}.String()+" REPLICA IDENTITY FULL", sql)
	pgtest.Exec(t, c, sql)
	for _, step := range strings.Split(over, ", ") {
		switch step {
		case "stop crossfade run":
			require.Equal(t, 0, p.stop())
		case "crossfade clean":
			out, code := s.say(t, nil, "clean")
			require.Equal(t, 0, code, out)
		case "crossfade run":
			p.start()
		}
	}
	p.awaitFollowing()
	st = p.await("nothing is told any more", func(st control.Status) bool { return st.Ready })
	require.Empty(t, st.Blockers)
	require.Equal(t, 0, p.stop())
}

// blockerOf finds the blocker of a code that names something.
func blockerOf(st control.Status, code, what string) (control.Blocker, bool) {
	for _, b := range st.Blockers {
		if b.Code == code && strings.Contains(b.Detail, what) {
			return b, true
		}
	}
	return control.Blocker{}, false
}
