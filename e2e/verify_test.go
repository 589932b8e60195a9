package e2e_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// verified runs crossfade verify at the daemon's socket and reads its report.
func (p *process) verified(code int) control.VerifyReport {
	p.t.Helper()
	out, got := p.ctl("verify", "--json")
	require.Equal(p.t, code, got, out)
	var r control.VerifyReport
	last := out[strings.LastIndexByte(out, '\n')+1:] // the progress is on stderr
	require.NoError(p.t, json.Unmarshal([]byte(last), &r), out)
	return r
}

func notVerified(st control.Status) string {
	for _, w := range st.Warnings {
		if w.Code == "not_verified" {
			return w.Detail
		}
	}
	return ""
}

// With applications at work, a comparison finds nothing where there is nothing, and names what differs
// where there is something; it outlives a kill of the program, table by table, gives way to a cutover,
// and after the switch tells what the comparison that follows it has found.
func TestBothSidesAreComparedAtAnyTime(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	source := pgtest.Conn(t, s.source)
	pgtest.Exec(t, source, "CREATE TABLE public.quiet (id int PRIMARY KEY, v text); INSERT INTO public.quiet SELECT i, md5(i::text) FROM generate_series(1, 100000) i; CREATE SEQUENCE public.tickets; SELECT setval('public.tickets', 77)")
	p := newProcess(t, s, "--verify-max-age=24h")
	p.start()
	p.awaitServing()
	w := startShop(t, p, 4)
	p.awaitFollowing()
	awaitEach(t, w, 3)
	st := p.await("it is told that nothing was compared", func(st control.Status) bool { return st.Ready && notVerified(st) != "" })
	require.Equal(t, "the two sides have not been compared yet", notVerified(st))
	out, code := p.ctl("cutover", "--require-verified")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "the two sides have not been compared yet; crossfade verify compares both sides")

	r := p.verified(0)
	require.Equal(t, control.Equal, r.Outcome, "%+v", r)
	require.Empty(t, r.Differences)
	require.Positive(t, r.Sequences)
	p.await("it counts as compared", func(st control.Status) bool {
		return st.Ready && notVerified(st) == "" && st.Verify.State == "equal" && st.Verify.TablesDone == r.Tables
	})

	target := pgtest.Conn(t, s.target)
	key := pgtest.Value(t, target, "SELECT key FROM crossfade.run")
	change := func(sql string) { pgtest.Exec(t, target, "SELECT set_config('crossfade.key', '"+key+"', false); "+sql) }
	change("UPDATE public.quiet SET v = 'x' WHERE id = 17; DELETE FROM public.quiet WHERE id = 18; INSERT INTO public.quiet VALUES (-1, 'y')")
	r = p.verified(1)
	require.Equal(t, []control.VerifyDifference{{Kind: "table", Name: "public.quiet", Verdict: control.Different,
		Reason: "100000 rows at the source, 100000 at the target, with different content", Keys: []string{"extra (-1)", "changed (17)", "missing (18)"}}}, r.Differences)
	st = p.await("what differs is told", func(st control.Status) bool { return strings.Contains(notVerified(st), "public.quiet") })
	require.EqualValues(t, 1, st.Verify.Differences)
	change("DELETE FROM public.quiet WHERE id IN (-1, 17); INSERT INTO public.quiet VALUES (17, md5('17')), (18, md5('18'))")

	// The largest table cannot be read to its end: the program is killed when the others are done.
	locked := pgtest.Conn(t, s.target)
	pgtest.Exec(t, locked, "ANALYZE public.quiet") // how large it is cannot be asked while it is locked
	pgtest.Exec(t, locked, "BEGIN; LOCK TABLE public.quiet IN ACCESS EXCLUSIVE MODE")
	asked := make(chan int, 1)
	go func() {
		_, code := p.ctl("verify")
		asked <- code
	}()
	p.await("all but one table are compared", func(st control.Status) bool {
		return st.Verify.State == "running" && st.Verify.TablesDone == st.Verify.TablesTotal-1
	})
	out, code = p.ctl("verify", "--cancel")
	require.Equal(t, 0, code, out)
	require.Equal(t, 3, <-asked)
	out, code = p.ctl("verify", "--cancel")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "no comparison is running that can be stopped; crossfade status shows what runs")
	st = p.await("it is interrupted", func(st control.Status) bool { return st.Verify.State == control.VerifyInterrupted })
	require.Equal(t, "the comparison was stopped by crossfade verify --cancel", st.Verify.Waits)
	interrupted := p.begin("verify")
	p.await("it is continued", func(st control.Status) bool { return st.Verify.State == "running" })
	require.NoError(t, interrupted.cmd.Process.Signal(syscall.SIGINT))
	out, code = interrupted.end()
	require.Equal(t, 3, code, out)
	require.Contains(t, out, "stopped as asked: what was compared is kept, and crossfade verify continues")
	go func() {
		_, code := p.ctl("verify")
		asked <- code
	}()
	p.await("it is continued again", func(st control.Status) bool { return st.Verify.State == "running" && st.Verify.TablesDone > 0 })
	p.kill()
	require.Equal(t, 3, <-asked)
	round := pgtest.Value(t, target, "SELECT max(round) FROM crossfade.verification WHERE ended_at IS NULL")
	pgtest.Exec(t, locked, "ROLLBACK")
	p.start()
	p.awaitFollowing()
	p.await("it is known where it was", func(st control.Status) bool {
		return st.Verify.State == control.VerifyInterrupted && st.Verify.TablesDone > 0
	})
	before := pgtest.Value(t, target, "SELECT max(found_at) FROM crossfade.verified WHERE round = $1::bigint", round)
	r = p.verified(0)
	require.Equal(t, control.Equal, r.Outcome, "%+v", r)
	require.Equal(t, "1", pgtest.Value(t, target, "SELECT count(*) FROM crossfade.verified WHERE round = $1::bigint AND found_at > $2::timestamptz", round, before), "one table was left")

	// A cutover ends a comparison, unless that has ended before, and is not held up by it.
	awaitEach(t, w, 3)
	p.await("a cutover would be tried", func(st control.Status) bool { return st.Ready })
	beside := p.begin("verify")
	p.await("a comparison runs", func(st control.Status) bool { return st.Verify.State == "running" })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	report, err := p.request(ctx, control.CutoverOptions{RequireVerified: true})
	require.NoError(t, err)
	require.Equal(t, control.OutcomeSwitched, report.Outcome, report.Reason)
	if out, code = beside.end(); code != 0 {
		require.Equal(t, 3, code, out)
		require.Contains(t, out, "it gave way to a cutover")
	}
	r = p.verified(0)
	require.Equal(t, control.Equal, r.Outcome, "%+v", r)
	require.Positive(t, r.Sequences)
	requirePlain(t, stopClients(w), "nothing listens there")

	// A sequence that is behind is named after the switch.
	change("SELECT setval('public.tickets', 76)")
	r = p.verified(1)
	require.Equal(t, []control.VerifyDifference{{Kind: "sequence", Name: "public.tickets", Verdict: control.Different, Reason: "the source is at 77 and the target at 76, which is behind"}}, r.Differences)
	require.Equal(t, 0, p.stop())
}

// Two databases at rest are compared without a daemon; a side that is written to is refused.
func TestTwoDatabasesAtRestAreCompared(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
	both := []string{"verify", "--source=" + uri(s.source), "--target=" + uri(s.target)}
	out, code = s.say(t, nil, both...)
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "equal: ")
	target := pgtest.Conn(t, s.target)
	id := pgtest.Value(t, target, "SELECT min(id) FROM shop.accounts")
	pgtest.Exec(t, target, "UPDATE shop.accounts SET owner = owner || '.' WHERE id = "+id)
	require.NoError(t, target.Close(t.Context()))
	out, code = s.say(t, nil, both...)
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "different table shop.accounts: ")
	require.Contains(t, out, "changed ("+id+")")
	writer := pgtest.Conn(t, s.source)
	pgtest.Exec(t, writer, "BEGIN; UPDATE shop.accounts SET owner = owner")
	out, code = s.say(t, nil, both...)
	require.Equal(t, 3, code, out)
	oneLine(t, out, "the source is being written, by session")
	out, code = s.say(t, nil, both[:2]...)
	require.Equal(t, 2, code, out)
	oneLine(t, out, "--source and --target go together")
	out, code = s.say(t, nil, append(slices.Clone(both), "--control=/nowhere")...)
	require.Equal(t, 2, code, out)
	oneLine(t, out, "without a daemon")
}
