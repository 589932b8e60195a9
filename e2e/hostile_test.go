package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// loadHostile makes a big table, which is copied first, and a small one.
func loadHostile(t *testing.T, s *sides) {
	t.Helper()
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.big (id int PRIMARY KEY, pad text);
		ALTER TABLE public.big ALTER pad SET STORAGE EXTERNAL;
		INSERT INTO public.big SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i;
		CREATE TABLE public.small (id int PRIMARY KEY, n int);
		CREATE UNIQUE INDEX small_n ON public.small (n);
		INSERT INTO public.small SELECT i, i FROM generate_series(1, 100) i`)
}

// requireSameRows compares the content of every table of the source with the target's.
func requireSameRows(t *testing.T, s *sides) {
	t.Helper()
	source, target := pgtest.Conn(t, s.source), pgtest.Conn(t, s.target)
	rows, err := source.Query(context.Background(), `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'crossfade') ORDER BY 1`)
	require.NoError(t, err)
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, tables)
	for _, name := range tables {
		sql := `SELECT count(*) || ' ' || coalesce(md5(string_agg(x::text, E'\n' ORDER BY x::text COLLATE "C")), '') FROM ` + name + ` x`
		require.Equal(t, pgtest.Value(t, source, sql), pgtest.Value(t, target, sql), name)
	}
}

// trouble is something that comes between a copy and its end.
type trouble struct {
	name string
	own  bool // it is of a whole cluster
	// harm is done while the first chunk of public.big waits to be recorded, or, where that is
	// of no matter, before the copy begins.
	before, harm, repair func(t *testing.T, s *sides)
	says                 []string
	waits                bool   // run continues by itself when it is fixed
	recopies             bool   // only a copy that begins again fixes it
	rest                 string // copy does the rest, and has this done on the target
}

func troubles() []trouble {
	source := func(sql string) func(*testing.T, *sides) {
		return func(t *testing.T, s *sides) {
			pgtest.Exec(t, pgtest.Conn(t, s.source), strings.ReplaceAll(sql, "ME", s.source.User()))
		}
	}
	return []trouble{
		{name: "revoked privilege", harm: source(`REVOKE SELECT ON public.small FROM ME`), repair: source(`GRANT SELECT ON public.small TO ME`),
			says: []string{"copy public.small: ", "permission denied for table small", "GRANT SELECT ON public.small TO"}, waits: true},
		{name: "dropped table", harm: source(`DROP TABLE public.small`), repair: func(t *testing.T, s *sides) {
			out, code := s.say(t, nil, "clean")
			require.Equal(t, 0, code, out)
		}, says: []string{"copy public.small: ", "dropped", "start over: crossfade clean"}, recopies: true},
		{name: "unique index", before: doubled, harm: func(*testing.T, *sides) {}, repair: func(t *testing.T, s *sides) {
			pgtest.Exec(t, adminOf(t, s.sourceCluster, s.source.Database()), `SET enable_indexscan = off; SET enable_bitmapscan = off;
				DELETE FROM public.small WHERE id = 101; REINDEX INDEX public.small_n`)
		}, says: []string{"public.small_n", "could not create unique index", "REINDEX"}, rest: `DELETE FROM public.small WHERE id = 101`},
		{name: "project size limit", own: true, before: limited(3), harm: func(*testing.T, *sides) {}, repair: limited(0),
			says: []string{"copy public.big: ", "could not extend file because project size limit (", "raise the limit"}, waits: true},
		{name: "full disk", own: true, before: onSmallDisk, harm: func(*testing.T, *sides) {}, repair: biggerDisk,
			says: []string{"copy public.big: ", "No space left on device", "make room"}, waits: true},
	}
}

// doubled puts a row into public.small that its unique index does not know of, as a damaged
// index does.
func doubled(t *testing.T, s *sides) {
	t.Helper()
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	ready := `UPDATE pg_index SET indisready = %s WHERE indexrelid = 'public.small_n'::regclass`
	pgtest.Exec(t, admin, fmt.Sprintf(ready, "false"))
	pgtest.Exec(t, pgtest.Conn(t, s.source), `INSERT INTO public.small VALUES (101, 1)`)
	pgtest.Exec(t, admin, fmt.Sprintf(ready, "true"))
}

// limited leaves the target's project this many MB, 0 for no limit.
func limited(mb int) func(*testing.T, *sides) {
	return func(t *testing.T, s *sides) {
		t.Helper()
		if mb > 0 {
			used, err := s.neon.Size(context.Background())
			require.NoError(t, err)
			mb += int(used >> 20)
		}
		require.NoError(t, s.neon.SetSizeLimit(context.Background(), mb))
	}
}

// diskBefore is what a small disk holds in addition to an empty database, in MB; the rows take
// more.
const diskBefore = 15

// onSmallDisk moves the target's database to a disk that is soon full: a real one where we may
// mount one, else the front says so.
func onSmallDisk(t *testing.T, s *sides) {
	t.Helper()
	dir := filepath.Join(s.targetCluster.Dir(), "small")
	st, err := os.Stat(s.targetCluster.Dir())
	require.NoError(t, err)
	owner := st.Sys().(*syscall.Stat_t)
	require.NoError(t, os.Mkdir(dir, 0o700))
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", diskBefore)); err != nil {
		t.Logf("no disk can be mounted (%v): the front says that it is full", err)
		used, err := s.neon.Size(context.Background())
		require.NoError(t, err)
		s.neon.SetDiskSize(used + 5<<20)
		return
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.targetCluster.Stop(ctx, pgcluster.Immediate) // so that nobody is on it
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	require.NoError(t, os.Chown(dir, int(owner.Uid), int(owner.Gid)))
	admin := adminOf(t, s.targetCluster, "postgres")
	pgtest.Exec(t, admin, "CREATE TABLESPACE small LOCATION "+pg.QuoteLiteral(dir))
	pgtest.Exec(t, admin, "ALTER DATABASE "+s.target.Database()+" SET TABLESPACE small")
}

func biggerDisk(t *testing.T, s *sides) {
	t.Helper()
	s.neon.SetDiskSize(0)
	dir := filepath.Join(s.targetCluster.Dir(), "small")
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=200m"); err != nil {
		t.Logf("the disk cannot be made bigger: %v", err)
	}
}

func (x trouble) sides(t *testing.T) *sides {
	t.Helper()
	s := newSides
	if x.own {
		s = ownSides
	}
	made := s(t)
	loadHostile(t, made)
	if x.before != nil {
		x.before(t, made)
	}
	return made
}

// TestTroubleWithinACopy has something come between a copy and its end. The copy says in one
// line what, where and what to do, and when that is done, goes on and ends well.
func TestTroubleWithinACopy(t *testing.T) {
	t.Parallel()
	for _, x := range troubles() {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "revoked privilege")
			s := x.sides(t)
			copyKilled(t, s, "phase.prepared=kill")
			h := s.heldTable(t, "public.big")
			c := s.beginCommand(t, "copy", "--jobs=1", "--log-level=error")
			if !x.own { // else it does not come that far
				h.met()
			}
			x.harm(t, s)
			h.release()
			out, code := c.end()
			require.Equal(t, 3, code, out)
			require.NotContains(t, out, "(n)=(1)", "no value of a row")
			if x.rest != "" { // the copy has gone on
				out = lastLine(out)
				require.Contains(t, out, "run the same command again, which tries these alone")
				pgtest.Exec(t, pgtest.Conn(t, s.target), x.rest)
			} else {
				out = errorLine(t, out)
			}
			oneLine(t, out, x.says...)
			switch {
			case x.rest != "":
			case x.recopies:
				require.NotContains(t, out, "again to continue")
				require.Equal(t, []string{"clean"}, printed(t, out, "clean"), "which is what it takes")
			default:
				require.Contains(t, out, "run the same command again to continue")
			}
			x.repair(t, s)
			out, code = s.say(t, nil, "copy", "--log-level=error")
			require.Equal(t, 0, code, out)
			requireSameRows(t, s)
			requireSameSchema(t, s.dump(t, s.source), s.dump(t, s.target), "source and target")
			s.requireNothingLeft(t)
		})
	}
}

// errorLine returns the one line that is not progress.
func errorLine(t *testing.T, out string) string {
	t.Helper()
	var found []string
	for l := range strings.Lines(out) {
		if !strings.HasPrefix(l, "copy ") {
			found = append(found, strings.TrimSpace(l))
		}
	}
	require.Len(t, found, 1, out)
	return found[0]
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

// TestTroubleWithinARun is the same under `run`, which serves the applications on and goes on by
// itself where it can.
func TestTroubleWithinARun(t *testing.T) {
	t.Parallel()
	for _, x := range troubles() {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "project size limit", "dropped table") // one that passes and one that does not
			s := x.sides(t)
			p := newProcess(t, s, "--jobs=1")
			p.start("phase.prepared=kill")
			require.Equal(t, -1, p.wait(), "the program is killed")
			h := s.heldTable(t, "public.big")
			p.start()
			p.awaitServing()
			if !x.own {
				h.met()
			}
			x.harm(t, s)
			h.release()
			code := "migration_stopped"
			if x.waits {
				code = "migration_waits"
			}
			b := p.awaitBlocker(code)
			oneLine(t, b.Detail+"; "+b.Remedy, x.says...)
			for _, other := range p.await("it tells", func(control.Status) bool { return true }).Blockers {
				require.NotEqual(t, "not_ready", other.Code, "waiting does not end it: %s", other.Remedy)
			}
			app := application(t, p, "0")
			pgtest.Exec(t, app, "INSERT INTO public.big VALUES (0, 'while it stands')")
			if !x.waits {
				out, exit := p.ctl("status")
				require.Equal(t, 3, exit, "what has stopped is not well: %s", out)
				require.Contains(t, out, "phase stopped | active source")
				require.NotContains(t, out, "lag", "nobody knows it")
				_, err := p.client.Health(t.Context())
				require.ErrorContains(t, err, "the migration has stopped: ")
				require.Equal(t, 3, p.stop(), "it could not complete")
				said := lastLine(p.log.String())
				for _, w := range x.says {
					require.Contains(t, said, w)
				}
			}
			x.repair(t, s)
			if !x.waits {
				p.start()
			}
			p.awaitFollowing()
			p.cutover()
			p.finish()
			require.Equal(t, 0, p.stop())
			requireSameRows(t, s)
			s.requireNothingLeft(t)
		})
	}
}

// awaitBlocker waits until the status names a blocker.
func (p *process) awaitBlocker(code string) control.Blocker {
	p.t.Helper()
	var found control.Blocker
	eventually(p.t, "the status says "+code, func() bool {
		s, err := p.client.Status(context.Background())
		if err != nil {
			return false
		}
		for _, b := range s.Blockers {
			if b.Code == code {
				found = b
				return true
			}
		}
		return false
	})
	return found
}

// TestAProjectFillsUp makes check name the limit before it is reached and after it, and reaches it
// after the copy. The run waits and continues.
func TestAProjectFillsUp(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("with -short the limit is reached in the copy only")
	}
	s := ownSides(t)
	loadHostile(t, s)
	requireCheck := func(code int, says ...string) {
		out, got := s.say(t, nil, "check")
		require.Equal(t, code, got, out)
		for _, w := range says {
			require.Contains(t, out, w)
		}
	}
	requireCheck(0)
	limited(3)(t, s)
	requireCheck(0, "project_size_limit", "raise the limit")
	pgtest.Exec(t, pgtest.Conn(t, s.source), "REVOKE SELECT ON public.small FROM "+s.source.User())
	require.NoError(t, s.neon.SetSizeLimit(context.Background(), 1))
	requireCheck(1, "target_full", "project size limit (1 MB)", "raise the limit", "table_not_readable", "public.small", "GRANT SELECT")
	require.NoError(t, s.neon.SetSizeLimit(context.Background(), 0))
	pgtest.Exec(t, pgtest.Conn(t, s.source), "GRANT SELECT ON public.small TO "+s.source.User())
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	require.NoError(t, s.neon.SetSizeLimit(context.Background(), 1))
	pgtest.Exec(t, application(t, p, "0"), "INSERT INTO public.small SELECT i, i FROM generate_series(1001, 1100) i")
	b := p.awaitBlocker("migration_waits")
	oneLine(t, b.Detail+"; "+b.Remedy, "project size limit (1 MB)", "raise the limit")
	require.NoError(t, s.neon.SetSizeLimit(context.Background(), 0))
	p.awaitFollowing()
	p.cutover()
	p.finish()
	require.Equal(t, 0, p.stop())
	requireSameRows(t, s)
}

// TestAPlainTarget moves a database to plain PostgreSQL without TLS.
func TestAPlainTarget(t *testing.T) {
	t.Parallel()
	s := plainSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	w := startShop(t, p, 4)
	p.awaitFollowing()
	awaitEach(t, w, 3)
	p.cutover()
	awaitEach(t, w, 3)
	p.finish()
	load := stopClients(w)
	requirePlain(t, load)
	requireLedger(t, s, load, small, 1)
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
