package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// ctl runs a command that asks the daemon.
func (p *process) ctl(args ...string) (string, int) {
	p.t.Helper()
	out, code := program(p.t, nil, append(args, "--control="+p.socket)...)
	return strings.TrimSpace(out), code
}

// catalogs is what a cutover that changes nothing must leave alone on both sides.
func (s *sides) catalogs(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, d := range []pg.DSN{s.source, s.target} {
		c := pgtest.Conn(t, d)
		all = append(all, s.dump(t, d)...)
		for _, sql := range []string{
			`SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM (SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal) t`,
			`SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM crossfade.run t`,
			`SELECT string_agg(slot_name, ' ') FROM pg_replication_slots WHERE database = current_database()`,
			`SELECT string_agg(last_value::text, ' ' ORDER BY schemaname, sequencename) FROM pg_sequences`,
		} {
			all = append(all, pgtest.Value(t, c, sql))
		}
	}
	return all
}

func TestDryRunAndRehearsalHarmNobody(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	awaitFence(t, s)
	before := s.catalogs(t)
	out, code := p.ctl("cutover", "--dry-run")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "planned")
	require.Contains(t, out, "tables")
	require.Equal(t, before, s.catalogs(t), "a dry run changes nothing")

	w := startShop(t, p, 6)
	awaitEach(t, w, 3)
	// Writers that go round the proxy are a reason to refuse a rehearsal.
	bypass := pgtest.Conn(t, s.source)
	pgtest.Exec(t, bypass, "SET application_name = 'nightly job'")
	out, code = p.ctl("cutover", "--rehearse")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "--allow-bypass")
	require.NoError(t, bypass.Close(context.Background()))
	_, err := awaitRow(adminOf(t, s.sourceCluster, "postgres"), `SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'nightly job')`)
	require.NoError(t, err)
	out, code = p.ctl("cutover", "--rehearse", "--allow-bypass")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "rehearsed")
	require.Equal(t, "source", p.awaitServing().Active)
	awaitEach(t, w, 5)

	p.awaitFollowing()
	p.cutover()
	awaitEach(t, w, 5)
	load := stopClients(w)
	require.Empty(t, load.ErrorTexts)
	requireLedger(t, s, load, small, 1)
	require.Equal(t, 0, p.stop())
}

func TestCutoverIsRefusedBeforeItsTimeAndTwice(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start("phase.prepared=kill")
	require.Equal(t, -1, p.wait(), "the program is killed")
	chunk := s.holdWhere(t, "target", "crossfade.chunk", "true")
	p.start()
	p.awaitServing()
	chunk.met()
	out, code := p.ctl("cutover")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "refused", "following")
	out, code = p.ctl("finish")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "source is still active")
	chunk.release()
	p.awaitFollowing()

	// Where the command is killed, what it asked for is taken back.
	h := s.holdWhere(t, "source", "crossfade.run", "NEW.step = 'pausing'")
	cmd := exec.Command(binary, "cutover", "--control="+p.socket)
	cmd.Env = os.Environ()
	require.NoError(t, cmd.Start())
	h.met()
	out, code = p.ctl("cutover")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "running")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	h.release()
	p.await("the cutover is taken back", func(st control.Status) bool { return st.Phase == "following" })
	require.EqualValues(t, "switched", p.cutover().Outcome)
	out, code = p.ctl("cutover")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "refused")
	require.Equal(t, 0, p.stop())
	out, code = p.ctl("status")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "no daemon")
}

// TestWritersThatBypassTheProxyMeetTheFence writes to the source directly before, within and after
// a cutover: what was acknowledged is on the target.
func TestWritersThatBypassTheProxyMeetTheFence(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.hot (id int PRIMARY KEY, n bigint NOT NULL);
		INSERT INTO public.hot SELECT i, 0 FROM generate_series(1, 4) i`)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	ctx := context.Background()
	// A snapshot that is older than the fence does not hide it.
	old := pgtest.Conn(t, s.source)
	pgtest.Exec(t, old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1")
	written := make(chan int, 1)
	ended := make(chan error, 1)
	writer := pgtest.Conn(t, s.source)
	go func() {
		for n := 0; ; n++ {
			if _, err := writer.Exec(ctx, "UPDATE public.hot SET n = n + 1 WHERE id = 1"); err != nil {
				written <- n
				ended <- err
				return
			}
		}
	}()
	p.cutover()
	n := <-written
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(<-ended))
	require.EqualValues(t, n, number(t, pgtest.Conn(t, s.target), "SELECT n FROM public.hot WHERE id = 1"))
	_, err := old.Exec(ctx, "UPDATE public.hot SET n = n + 1 WHERE id = 2")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
	require.Contains(t, err.Error(), "fenced by Crossfade")
	require.Equal(t, 0, p.stop())
}

// TestDDLWhileFollowing changes the source's schema while it is followed: the
// cutover does not switch and names the object, the clients go on, and once the
// change was made on the target too, or taken back, it switches.
func TestDDLWhileFollowing(t *testing.T) {
	t.Parallel()
	for _, ddl := range []struct{ name, change, object, back, also string }{
		{"table", "CREATE TABLE shop.later (id int PRIMARY KEY)", "later", "DROP TABLE shop.later", ""},
		{"column", "ALTER TABLE shop.events ADD COLUMN late text", "events", "", "ALTER TABLE shop.events ADD COLUMN late text"},
		{"index", "CREATE INDEX late_index ON shop.documents (title)", "late_index", "DROP INDEX shop.late_index", ""},
		{"function", "CREATE FUNCTION shop.late() RETURNS int LANGUAGE sql AS 'SELECT 1'", "late", "", "CREATE FUNCTION shop.late() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
	} {
		t.Run(ddl.name, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "column", "index")
			s := newSides(t)
			loadShop(t, s)
			p := newProcess(t, s)
			p.start()
			p.awaitServing()
			w := startShop(t, p, 4)
			p.awaitFollowing()
			pgtest.Exec(t, pgtest.Conn(t, s.source), ddl.change)
			awaitEach(t, w, 10)
			out, code := p.ctl("cutover", "--attempts=1")
			require.Equal(t, 1, code, out)
			require.Contains(t, out, ddl.object)
			awaitEach(t, w, 5)
			st, err := p.client.Status(t.Context())
			require.NoError(t, err)
			require.Equal(t, "source", st.Active)
			t.Logf("blockers: %+v", st.Blockers)

			pgtest.Exec(t, pgtest.Conn(t, s.source), ddl.back)
			if ddl.also != "" { // as the owner, which the role of --target may become
				pgtest.Exec(t, pgtest.Conn(t, s.target), "SET ROLE "+s.source.User()+"; "+ddl.also)
			}
			p.kill()
			p.start()
			p.awaitFollowing()
			p.cutoverPatiently()
			awaitEach(t, w, 5)
			p.finish()
			load := stopClients(w)
			requireLedger(t, s, load, small, 1)
			require.Equal(t, 0, p.stop())
			s.requireNothingLeft(t)
		})
	}
}
