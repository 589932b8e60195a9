package schema

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster"
	"crossfade/internal/pgcluster/pgtest"
	"crossfade/internal/workload"
	"crossfade/schema/catalog"
)

// pair is a source and a target whose owners are no superusers, and a further
// role that both clusters have under different names.
type pair struct {
	source, target pg.DSN
	admin          pg.DSN // of the source's database
	roles          map[string]string
	reader         string // on the source
	disordered     []catalog.Disordered
}

func newPair(t *testing.T) *pair {
	t.Helper()
	src, dst := pgtest.Shared(t, pgtest.Source), pgtest.Shared(t, pgtest.Target)
	reader := "reader_" + strings.ToLower(rand.Text()[:8])
	makeRole(t, src, reader)
	makeRole(t, dst, "other_"+reader)
	p := &pair{source: pgtest.Database(t, src), target: pgtest.Database(t, dst), reader: reader}
	p.admin = src.AdminDSN(p.source.Database())
	p.roles = map[string]string{p.source.User(): p.target.User(), reader: "other_" + reader}
	pgtest.Exec(t, pgtest.Conn(t, p.target), journal.TargetDDL)
	return p
}

func makeRole(t *testing.T, c *pgcluster.Cluster, name string) {
	t.Helper()
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	pgtest.Exec(t, admin, "CREATE ROLE "+name)
	t.Cleanup(func() { pgtest.Exec(t, pgtest.Conn(t, c.AdminDSN("postgres")), "DROP ROLE "+name) })
}

// loadObjects fills the source with testdata/objects.sql.
func (p *pair) loadObjects(t *testing.T) {
	t.Helper()
	sql, err := os.ReadFile("testdata/objects.sql")
	require.NoError(t, err)
	_, err = pgtest.Conn(t, p.source).PgConn().Exec(t.Context(), strings.ReplaceAll(string(sql), "READER", p.reader)).ReadAll()
	require.NoError(t, err)
}

// pagila is the sample database's directory, beside the repository.
const pagila = "../../shared/testdata/pagila"

func (p *pair) loadPagila(t *testing.T) {
	t.Helper()
	sql, err := os.ReadFile(filepath.Join(pagila, "pagila-schema.sql"))
	if err != nil {
		t.Skipf("the sample database pagila is not beside the repository: %v", err)
	}
	conn := pgtest.Conn(t, p.source)
	pgtest.Exec(t, conn, "CREATE SCHEMA pagila")
	pgtest.Exec(t, conn, regexp.MustCompile(`(?m)^ALTER .* OWNER TO .*;$`).ReplaceAllString(string(sql), ""))
}

// loadLibrary fills the source with the sample that every clone of the repository has.
func (p *pair) loadLibrary(t *testing.T) {
	t.Helper()
	require.NoError(t, workload.Library{}.Load(t.Context(), pgtest.Conn(t, p.source)))
}

// plan dumps the source and reads its catalog.
func (p *pair) plan(t *testing.T) (*Plan, *catalog.Database) {
	t.Helper()
	data, err := Dump(t.Context(), DumpConfig{DSN: p.source})
	require.NoError(t, err)
	a, err := ParseArchive(data)
	require.NoError(t, err)
	db, err := catalog.Read(t.Context(), pgtest.Conn(t, p.source))
	require.NoError(t, err)
	p.disordered = db.Disordered
	return NewPlan(a), db
}

func (p *pair) restore(t *testing.T, plan *Plan, part Part, conns int) Report {
	t.Helper()
	cfg := RestoreConfig{Rewrite: Rewrite{Roles: p.roles, Disordered: p.disordered, Major: 15}, Log: zerolog.Nop()}
	for range conns {
		cfg.Conns = append(cfg.Conns, pgtest.Conn(t, p.target))
	}
	report, err := plan.Restore(t.Context(), part, cfg)
	require.NoError(t, err, string(part))
	return report
}

// dumpText is pg_dump's plain text of a schema, made comparable.
func dumpText(t *testing.T, dsn pg.DSN, rename map[string]string) string {
	t.Helper()
	program, err := findDump(t.Context(), 0)
	require.NoError(t, err)
	conninfo, env := dsn.LibpqEnv()
	cmd := exec.CommandContext(t.Context(), program.path, "--schema-only", "--no-owner", "--exclude-schema="+ownSchema, "--dbname="+conninfo)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	text := regexp.MustCompile(`(?m)^(\\(un)?restrict|-- Dumped).*\n`).ReplaceAllString(string(out), "")
	text = strings.ReplaceAll(text, "CREATE UNLOGGED TABLE", "CREATE TABLE")
	for from, to := range rename {
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

func inTx(t *testing.T, conn *pgx.Conn, f func() error) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(context.Background(), conn, func(pgx.Tx) error { return f() }))
}

// runAfter executes what follows a decision, of which nothing may be refused.
func runAfter(t *testing.T, conn *pgx.Conn, statements []Statement) {
	t.Helper()
	refused, err := RunAfter(t.Context(), conn, statements)
	require.NoError(t, err)
	require.Empty(t, refused)
}
