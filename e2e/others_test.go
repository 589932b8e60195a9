package e2e_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// A role of its own migrates, and the owner's tools go on at the source: the nightly dump,
// psql's \d, and what lists an application's objects by its schema.
func TestTheOwnersToolsWorkDuringARun(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	owner := s.source
	mover := "mover_" + owner.User()
	root := adminOf(t, s.sourceCluster, owner.Database())
	pgtest.Exec(t, root, "CREATE ROLE "+mover+" LOGIN REPLICATION PASSWORD 'pw-of-mover'; GRANT "+owner.User()+", pg_monitor, pg_signal_backend TO "+mover+
		"; GRANT CREATE, CONNECT ON DATABASE "+owner.Database()+" TO "+mover+"; ALTER ROLE "+owner.User()+" NOREPLICATION")
	t.Cleanup(func() { pgtest.DropRole(t, s.sourceCluster, owner.Database(), mover) })
	conn := pgtest.Conn(t, owner)
	pgtest.Exec(t, conn, "CREATE TABLE public.plain (id int PRIMARY KEY); INSERT INTO public.plain VALUES (1)")
	const listed = `SELECT string_agg(concat_ws('.', table_schema, table_name), ' ' ORDER BY table_schema, table_name) FROM information_schema.tables WHERE table_schema IN ('public', 'shop')`
	before := pgtest.Value(t, conn, listed)

	s.source = owner.WithUser(mover, "pw-of-mover")
	t.Cleanup(func() { s.dropMade(t) })
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	p.awaitFollowing()
	awaitFence(t, s)
	tools := func(when string) {
		require.Contains(t, wholeDump(t, owner), "COPY public.plain", when)
		require.Equal(t, before, pgtest.Value(t, conn, listed), when)
		b, err := pgcluster.Find()
		require.NoError(t, err)
		info, env := owner.LibpqEnv()
		cmd := exec.Command(b.Path("psql"), "--no-psqlrc", "--dbname="+info, "-c", `\d public.plain`, "-c", `\dt`, "-c", `\dn+ crossfade`)
		cmd.Env = append(cmd.Environ(), env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "Crossfade", "what is ours explains itself")
	}
	tools("while it follows")
	require.NotEmpty(t, pgtest.Value(t, conn, `SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = 'crossfade'`))
	p.cutover()
	p.awaitWhole()
	tools("after the switch")
	_, err := conn.Exec(t.Context(), "INSERT INTO public.plain VALUES (2)")
	require.True(t, pg.IsCode(err, pg.CodeReadOnlyTransaction), "%v", err)
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}

// wholeDump is what pg_dump writes of a database.
func wholeDump(t *testing.T, d pg.DSN) string {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	info, env := d.LibpqEnv()
	cmd := exec.Command(b.Path("pg_dump"), "--dbname="+info)
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}
