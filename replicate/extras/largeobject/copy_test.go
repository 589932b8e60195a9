package largeobject_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/extras/largeobject"
	"crossfade/replicate/snapshot"
)

// objects are made under numbers that no other test's database cares about:
// each database has its own large objects.
const objects = `
	SELECT lo_from_bytea(1000 + n, decode(repeat(md5(n::text), n), 'hex')) FROM generate_series(0, 150) n;
	SELECT lo_from_bytea(4000000000, '\x00ff');
	SELECT lo_create(5000); SELECT lo_put(5000, 3 * 65536 + 17, 'behind a hole');
	SELECT lo_from_bytea(6000, decode(repeat('00ff10', 1000000), 'hex'));
	SELECT lo_from_bytea(6001, decode(repeat('ab', 65536), 'hex'));
	COMMENT ON LARGE OBJECT 5000 IS 'it''s sparse';`

type sides struct {
	source, target *pgx.Conn
	cfg            largeobject.Config
}

func start(t *testing.T) sides {
	t.Helper()
	from, to := pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	connect := func(dsn pg.DSN) snapshot.Connect {
		return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn) }
	}
	s := sides{source: pgtest.Conn(t, from), target: pgtest.Conn(t, to)}
	s.cfg = largeobject.Config{Source: connect(from), Target: connect(to), Owners: true, Privileges: true, Comments: true}
	pgtest.Exec(t, s.target, journal.TargetDDL)
	return s
}

// contents has a line for each object: its number, length, bytes, comment.
func contents(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT format('%s %s %s %s', oid, length(lo_get(oid)), md5(lo_get(oid)), obj_description(oid, 'pg_largeobject'))
		FROM pg_largeobject_metadata ORDER BY oid`)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}

func TestEveryObjectKeepsItsNumberBytesAndComment(t *testing.T) {
	t.Parallel()
	s := start(t)
	pgtest.Exec(t, s.source, objects)
	s.cfg.PieceBytes = 100_000 // the largest takes thirty
	r, err := largeobject.Copy(t.Context(), s.cfg)
	require.NoError(t, err)
	require.EqualValues(t, 155, r.Objects)
	want := contents(t, s.source)
	require.Len(t, want, 155)
	require.Equal(t, want, contents(t, s.target))

	again, err := largeobject.Copy(t.Context(), s.cfg)
	require.NoError(t, err)
	require.EqualValues(t, 155, again.Objects)
	require.Zero(t, again.Bytes, "nothing is copied twice")

	removed, err := largeobject.Forget(t.Context(), s.target)
	require.NoError(t, err)
	require.Equal(t, 155, removed)
	require.Empty(t, contents(t, s.target))
	r, err = largeobject.Copy(t.Context(), s.cfg)
	require.NoError(t, err)
	require.EqualValues(t, 155, r.Objects)
}

func TestObjectsAreThoseOfTheSnapshot(t *testing.T) {
	t.Parallel()
	s := start(t)
	pgtest.Exec(t, s.source, `SELECT lo_from_bytea(1, 'as it was'), lo_from_bytea(2, 'removed later')`)
	held, err := snapshot.Export(t.Context(), s.cfg.Source)
	require.NoError(t, err)
	defer held.Close()
	want := contents(t, s.source)
	pgtest.Exec(t, s.source, `SELECT lo_put(1, 0, 'as it is now'), lo_unlink(2), lo_from_bytea(3, 'new')`)
	s.cfg.Snapshot = held
	_, err = largeobject.Copy(t.Context(), s.cfg)
	require.NoError(t, err)
	require.Equal(t, want, contents(t, s.target))
}

func TestAnObjectOfTheTargetsOwnIsNotTouched(t *testing.T) {
	t.Parallel()
	s := start(t)
	pgtest.Exec(t, s.source, `SELECT lo_from_bytea(7, 'theirs'), lo_from_bytea(8, 'too')`)
	pgtest.Exec(t, s.target, `SELECT lo_from_bytea(8, 'mine')`)
	_, err := largeobject.Copy(t.Context(), s.cfg)
	require.ErrorIs(t, err, largeobject.ErrTaken)
	require.ErrorContains(t, err, "large object 8")
	require.ErrorContains(t, err, "lo_unlink(8)")
	var mine string
	require.NoError(t, s.target.QueryRow(t.Context(), `SELECT convert_from(lo_get(8), 'UTF8')`).Scan(&mine))
	require.Equal(t, "mine", mine)
}

func TestOwnersAndPrivilegesFollowWhereTheTargetHasTheRole(t *testing.T) {
	t.Parallel()
	s := start(t)
	owner, reader := role(t, pgtest.Source, s.source, "owner"), role(t, pgtest.Source, s.source, "reader")
	pgtest.Exec(t, s.source, fmt.Sprintf(`SELECT lo_from_bytea(10, 'x'), lo_from_bytea(11, 'y'), lo_from_bytea(12, 'z');
		ALTER LARGE OBJECT 10 OWNER TO %[1]s; GRANT SELECT ON LARGE OBJECT 10 TO %[2]s WITH GRANT OPTION; GRANT UPDATE ON LARGE OBJECT 10 TO PUBLIC;
		GRANT SELECT ON LARGE OBJECT 11 TO %[2]s;
		ALTER LARGE OBJECT 12 OWNER TO %[1]s; REVOKE UPDATE ON LARGE OBJECT 12 FROM %[1]s`, owner, reader))
	there := role(t, pgtest.Target, s.target, "there")
	s.cfg.Roles = map[string]string{owner: there}
	r, err := largeobject.Copy(t.Context(), s.cfg)
	require.NoError(t, err)
	require.EqualValues(t, 2, r.GrantsLeft, "the target has no role for the reader, who has two grants")
	rows, err := s.target.Query(t.Context(), `SELECT format('%s %s %s', oid, pg_get_userbyid(lomowner), lomacl) FROM pg_largeobject_metadata ORDER BY oid`)
	require.NoError(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	var self string
	require.NoError(t, s.target.QueryRow(t.Context(), `SELECT current_user`).Scan(&self))
	require.Equal(t, []string{
		fmt.Sprintf("10 %[1]s {=w/%[1]s,%[1]s=rw/%[1]s}", there),
		fmt.Sprintf("11 %[1]s {%[1]s=rw/%[1]s}", self),
		fmt.Sprintf("12 %[1]s {%[1]s=r/%[1]s}", there),
	}, got)
}

// role makes a role that the session's own may hand objects to, in a cluster that
// other tests use too.
func role(t *testing.T, kind pgtest.Kind, conn *pgx.Conn, name string) string {
	t.Helper()
	name = "large_object_" + name
	cluster, database := pgtest.Shared(t, kind), conn.Config().Database
	admin := pgtest.Conn(t, cluster.AdminDSN(database))
	pgtest.Exec(t, admin, fmt.Sprintf("CREATE ROLE %s; GRANT %s TO %s", name, name, pgx.Identifier{conn.Config().User}.Sanitize()))
	t.Cleanup(func() { pgtest.DropRole(t, cluster, database, name) })
	return name
}
