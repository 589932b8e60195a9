package journal_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestRolesAreReadAndKept reads roles as a superuser and as someone who may not see secrets, and
// keeps them where the default privileges would let everybody read.
func TestRolesAreReadAndKept(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := pgtest.Shared(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	super, conn := pgtest.Conn(t, c.AdminDSN(dsn.Database())), pgtest.Conn(t, dsn)
	base := "r" + strings.ToLower(rand.Text()[:8])
	for i, options := range []string{"LOGIN PASSWORD 'pw'", "NOLOGIN PASSWORD 'pw'", "LOGIN PASSWORD 'pw' VALID UNTIL '2001-02-03 04:05:06Z'", "LOGIN VALID UNTIL 'infinity'", "LOGIN VALID UNTIL '-infinity'"} {
		name := fmt.Sprintf("%s_%d", base, i)
		pgtest.Exec(t, super, "CREATE ROLE "+name+" "+options)
		t.Cleanup(func() { pgtest.DropRole(t, c, dsn.Database(), name) })
	}
	mine := func(all []journal.Role) (out []journal.Role) {
		for _, r := range all {
			if strings.HasPrefix(r.Name, base) {
				r.ValidUntil = r.ValidUntil.UTC()
				out = append(out, r)
			}
		}
		return out
	}
	all, readable, err := journal.ReadRoles(ctx, super)
	require.NoError(t, err)
	require.True(t, readable)
	got := mine(all)
	require.Len(t, got, 5)
	for i, want := range []journal.Role{{CanLogin: true, Secret: "SCRAM-SHA-256$"}, {Secret: "SCRAM-SHA-256$"}, {CanLogin: true, ValidUntil: time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC), Secret: "SCRAM-SHA-256$"},
		{CanLogin: true}, {CanLogin: true, ValidUntil: time.Unix(0, 0).UTC()}} {
		require.Equal(t, want.CanLogin, got[i].CanLogin, i)
		require.Equal(t, want.ValidUntil, got[i].ValidUntil, i)
		require.True(t, strings.HasPrefix(got[i].Secret, want.Secret), i)
		require.Equal(t, want.Secret == "", got[i].Secret == "", i)
		require.NotContains(t, fmt.Sprintf("%+v", got[i]), "SCRAM")
	}

	hidden, readable, err := journal.ReadRoles(ctx, conn)
	require.NoError(t, err)
	require.False(t, readable)
	for i, r := range mine(hidden) {
		require.Equal(t, got[i].CanLogin, r.CanLogin)
		require.Empty(t, r.Secret)
	}
	// Granted, it can.
	pgtest.Exec(t, super, "GRANT SELECT ON pg_catalog.pg_authid TO "+dsn.User())
	_, readable, err = journal.ReadRoles(ctx, conn)
	require.NoError(t, err)
	require.True(t, readable)

	pgtest.Exec(t, conn, "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO "+base+"_0")
	require.NoError(t, journal.InstallTarget(ctx, conn, journal.TargetRun{RunID: "r1", Key: "k1", Mode: "run"}))
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
		WHERE c.oid = 'crossfade.role'::regclass AND a.grantee <> c.relowner`))
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT (SELECT count(*) FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a WHERE c.relnamespace = 'crossfade'::regnamespace AND c.relkind = 'r' AND a.grantee <> c.relowner)
		+ (SELECT count(*) FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a WHERE n.nspname = 'crossfade' AND a.grantee <> n.nspowner)`), "the schema and every table are the owner's alone")
	require.Equal(t, "false", pgtest.Value(t, conn, "SELECT has_table_privilege('"+base+"_0', 'crossfade.role', 'SELECT')::text"))
	for range 2 { // a second time takes the place of the first
		require.NoError(t, journal.SaveRoles(ctx, conn, got))
	}
	kept, err := journal.LoadRoles(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, got, mine(kept))
	require.Len(t, kept, 5)
	require.NoError(t, journal.SaveRoles(ctx, conn, nil))
	kept, err = journal.LoadRoles(ctx, conn)
	require.NoError(t, err)
	require.Empty(t, kept)
	_, err = journal.LoadRoles(ctx, super)
	require.NoError(t, err)
}
