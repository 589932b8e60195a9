// Package pairtest gives tests of the schema plane a source and a target, and moves a schema from
// one to the other with the plane's own code.
package pairtest

import (
	"context"
	"crypto/rand"
	_ "embed"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/internal/lab/workload"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
	"crossfade/schema/roles"
)

//go:embed objects.sql
var objects string

// Pair is a source and a target whose owners are no superusers, and a further
// role that both clusters have under different names.
type Pair struct {
	Source, Target pg.DSN
	Admin          pg.DSN // of the source's database
	Roles          map[string]string
	Reader         string // on the source
	Disordered     []catalog.Disordered
}

// New makes two databases, and the journal's tables on the target.
func New(t *testing.T) *Pair {
	t.Helper()
	src, dst := pgtest.Shared(t, pgtest.Source), pgtest.Shared(t, pgtest.Target)
	reader := "reader_" + strings.ToLower(rand.Text()[:8])
	MakeRole(t, src, reader)
	MakeRole(t, dst, "other_"+reader)
	p := &Pair{Source: pgtest.Database(t, src), Target: pgtest.Database(t, dst), Reader: reader}
	p.Admin = src.AdminDSN(p.Source.Database())
	p.Roles = map[string]string{p.Source.User(): p.Target.User(), reader: "other_" + reader}
	pgtest.Exec(t, pgtest.Conn(t, p.Target), journal.TargetDDL)
	return p
}

// MakeRole makes a role that goes with the test.
func MakeRole(t *testing.T, c *pgcluster.Cluster, name string) {
	t.Helper()
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	pgtest.Exec(t, admin, "CREATE ROLE "+name)
	t.Cleanup(func() { pgtest.Exec(t, pgtest.Conn(t, c.AdminDSN("postgres")), "DROP ROLE "+name) })
}

// LoadObjects fills the source with one object of each kind.
func (p *Pair) LoadObjects(t *testing.T) {
	t.Helper()
	_, err := pgtest.Conn(t, p.Source).PgConn().Exec(t.Context(), strings.ReplaceAll(objects, "READER", p.Reader)).ReadAll()
	require.NoError(t, err)
}

// LoadLibrary fills the source with the sample that every clone of the repository has.
func (p *Pair) LoadLibrary(t *testing.T) {
	t.Helper()
	require.NoError(t, workload.Library{}.Load(t.Context(), pgtest.Conn(t, p.Source)))
}

// Plan dumps the source and reads its catalog.
func (p *Pair) Plan(t *testing.T) (*plan.Plan, *catalog.Database) {
	t.Helper()
	data, err := archive.Dump(t.Context(), archive.DumpConfig{DSN: p.Source})
	require.NoError(t, err)
	a, err := plan.ParseArchive(data)
	require.NoError(t, err)
	db, err := catalog.Read(t.Context(), pgtest.Conn(t, p.Source))
	require.NoError(t, err)
	p.Disordered = db.Disordered
	return plan.New(a), db
}

// Restore restores a part of a plan with the given number of sessions; nothing may fail.
func (p *Pair) Restore(t *testing.T, planned *plan.Plan, part plan.Part, conns int) restore.Report {
	t.Helper()
	cfg := restore.Config{Rewrite: plan.Rewrite{Roles: p.Roles, Disordered: p.Disordered, Major: 15}, Log: zerolog.Nop()}
	for range conns {
		cfg.Conns = append(cfg.Conns, pgtest.Conn(t, p.Target))
	}
	report, err := restore.Restore(t.Context(), planned, part, cfg)
	require.NoError(t, err, string(part))
	return report
}

// DumpText is pg_dump's plain text of a schema, made comparable.
func DumpText(t *testing.T, dsn pg.DSN, rename map[string]string) string {
	t.Helper()
	program, err := archive.FindProgram(t.Context(), 0)
	require.NoError(t, err)
	conninfo, env := dsn.LibpqEnv()
	cmd := exec.CommandContext(t.Context(), program.Path, "--schema-only", "--no-owner", "--exclude-schema="+catalog.OwnSchema, "--dbname="+conninfo)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	text := regexp.MustCompile(`(?m)^(\\(un)?restrict|-- Dumped).*\n`).ReplaceAllString(string(out), "")
	text = strings.ReplaceAll(text, "CREATE UNLOGGED TABLE", "CREATE TABLE")
	for from, to := range rename {
		text = strings.ReplaceAll(text, from, to)
	}
	return regexp.MustCompile(`(?m)^CREATE POLICY .*$`).ReplaceAllStringFunc(text, roles.Sorted)
}

// Conns are sessions of the target.
func Conns(t *testing.T, p *Pair, n int) (out []*pgx.Conn) {
	t.Helper()
	for range n {
		out = append(out, pgtest.Conn(t, p.Target))
	}
	return out
}

// InTx runs f in a transaction of conn.
func InTx(t *testing.T, conn *pgx.Conn, f func() error) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(context.Background(), conn, func(pgx.Tx) error { return f() }))
}

// RunAfter executes what follows a decision; nothing may be refused.
func RunAfter(t *testing.T, conn *pgx.Conn, statements []plan.Statement) {
	t.Helper()
	refused, err := restore.RunAfter(t.Context(), conn, statements, restore.AfterConfig{})
	require.NoError(t, err)
	require.Empty(t, refused)
}
