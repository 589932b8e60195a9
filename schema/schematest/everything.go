// Package schematest fills test databases with one object of every kind that pg_dump knows, and
// with tables and values that are easily lost in a migration.
package schematest

import (
	"context"
	"crypto/rand"
	"embed"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

//go:embed everything/*.sql
var files embed.FS

// Files of everything that not every test wants.
const (
	Superuser    = "90-superuser.sql"    // what only a superuser can make
	Tablespace   = "95-tablespace.sql"   // tables in a tablespace
	LargeObjects = "96-largeobjects.sql" // a large object with comment and privileges
)

// Since is the first major version that has all that the files use.
const Since = 15

// Everything is a loaded database.
type Everything struct {
	DSN pg.DSN // of the superuser who owns most of it
	// App and Reader are roles of the cluster that own some of it, or may read it.
	App, Reader string
	Space       string // tablespace, where that file was asked for
}

// Load makes a database of the cluster, with its roles, and runs the files in
// it. All is dropped at the end of the test.
func Load(t testing.TB, c *pgcluster.Cluster, extra ...string) *Everything {
	t.Helper()
	if c.Binaries().Major < Since {
		t.Skipf("the objects need PostgreSQL %d", Since)
	}
	name := "ev" + strings.ToLower(rand.Text()[:8])
	e := &Everything{DSN: c.AdminDSN(name), App: name + "_app", Reader: name + "_reader", Space: name + "_1"}
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	pgtest.Exec(t, admin, "CREATE DATABASE "+name+" TEMPLATE template0")
	t.Cleanup(func() { e.drop(t, c) })
	pgtest.Exec(t, admin, "CREATE ROLE "+e.App+" LOGIN CREATEDB CONNECTION LIMIT 7; CREATE ROLE "+e.Reader+" NOLOGIN NOINHERIT; GRANT "+e.Reader+" TO "+e.App+" WITH ADMIN OPTION")
	entries, err := files.ReadDir("everything")
	require.NoError(t, err)
	for _, f := range entries {
		if f.Name() >= Superuser && !slices.Contains(extra, f.Name()) {
			continue
		}
		sql, err := files.ReadFile(path.Join("everything", f.Name()))
		require.NoError(t, err)
		e.run(t, c, f.Name(), strings.NewReplacer("cfrole_", name+"_", "cfspace_", name+"_", "cfdatabase", name).Replace(string(sql)))
	}
	return e
}

func (e *Everything) run(t testing.TB, c *pgcluster.Cluster, name, sql string) {
	t.Helper()
	conninfo, env := e.DSN.LibpqEnv()
	cmd := exec.Command(c.Binaries().Path("psql"), "-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", conninfo)
	cmd.Env = append(cmd.Environ(), append(env, "PGOPTIONS=-c client_min_messages=error")...)
	cmd.Stdin = strings.NewReader(sql)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", name, out)
}

func (e *Everything) drop(t testing.TB, c *pgcluster.Cluster) {
	conn := pgtest.Conn(t, e.DSN)
	pgtest.Exec(t, conn, "DROP SUBSCRIPTION IF EXISTS sub")
	_ = conn.Close(context.Background())
	pgtest.Drop(t, c, e.DSN.Database())
	pgtest.Exec(t, pgtest.Conn(t, c.AdminDSN("postgres")), "DROP TABLESPACE IF EXISTS "+e.Space)
	e.DropRoles(t, c)
}

// DropRoles drops the roles that a copy has made on another cluster. Their databases are gone.
func (e *Everything) DropRoles(t testing.TB, c *pgcluster.Cluster) {
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	for _, role := range []string{e.App, e.Reader} {
		pgtest.Exec(t, admin, "DROP ROLE IF EXISTS "+role)
	}
}
