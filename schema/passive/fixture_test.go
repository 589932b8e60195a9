package passive_test

import (
	"context"
	_ "embed"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/pairtest"
	"crossfade/schema/passive"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

//go:embed reacting.sql
var reacting string

// late are the check constraints of reacting.sql that depend on more than the row.
var late = []string{`"Not later"`, "not_later_either", "loose_check"}

var config = passive.Config{Checks: late}

// side is a database that has one of everything that reacts, with the tables of the journal.
type side struct {
	owner, writer pg.DSN // the writer makes it passive and writes to it
	cluster       *pgcluster.Cluster
}

// who says which role makes a side passive.
type who string

const (
	owner     who = "an ordinary owner"
	superuser who = "a superuser"
	grantee   who = "an owner that may set session_replication_role"
)

func newSide(t *testing.T, w who) side {
	t.Helper()
	c := pgtest.Shared(t, pgtest.Source)
	s := side{owner: pgtest.Database(t, c), cluster: c}
	s.writer = s.owner
	switch w {
	case superuser:
		s.writer = c.AdminDSN(s.owner.Database())
	case grantee:
		s.grant(t, "GRANT", "TO")
		t.Cleanup(func() { s.grant(t, "REVOKE", "FROM") })
	case owner:
	}
	writing := pgtest.Conn(t, s.writer)
	pgtest.Exec(t, writing, journal.SourceDDL)
	conn := pgtest.Conn(t, s.owner)
	pgtest.Exec(t, conn, reacting)
	pgtest.Exec(t, conn, "TRUNCATE app.fired") // deferred triggers have fired when the transaction ended
	require.NoError(t, journal.PrepareFence(t.Context(), writing, journal.Patience{}, true))
	return s
}

// granting is held by who grants: the server refuses two changes of a parameter's rights at once.
var granting sync.Mutex

func (s side) grant(t *testing.T, verb, preposition string) {
	granting.Lock()
	defer granting.Unlock()
	admin, err := pg.Connect(context.Background(), s.cluster.AdminDSN("postgres"))
	require.NoError(t, err)
	defer func() { _ = admin.Close(context.Background()) }()
	require.NoError(t, pg.Exec(context.Background(), admin, verb+" SET ON PARAMETER session_replication_role "+preposition+" "+pg.QuoteIdent(s.owner.User())))
}

// makePassive is Make in a transaction of its own. The fence stays closed.
func makePassive(t *testing.T, conn *pgx.Conn, cfg passive.Config) {
	t.Helper()
	pairtest.InTx(t, conn, func() error { return passive.Make(t.Context(), conn, cfg) })
	fence, err := journal.ReadFence(t.Context(), conn)
	require.NoError(t, err)
	require.NotZero(t, fence.Enabled)
	require.Equal(t, fence.Ready, fence.Enabled)
}

// decide runs what restores a side as a decision does.
func decide(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	sql, err := passive.Restoration(t.Context(), conn)
	require.NoError(t, err)
	pairtest.InTx(t, conn, func() error {
		if err := restore.Run(t.Context(), conn, sql.Decide); err != nil {
			return err
		}
		return pg.Exec(t.Context(), conn, passive.Restored)
	})
}

// finish runs what follows the decision.
func finish(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	due := pending(t, conn)
	pairtest.RunAfter(t, conn, due)
	for _, s := range due {
		require.NoError(t, passive.Done(t.Context(), conn, s))
	}
	require.Empty(t, pending(t, conn))
	require.Equal(t, "0", pgtest.Value(t, conn, "SELECT count(*) FROM crossfade.reaction"))
}

func pending(t *testing.T, conn *pgx.Conn) []plan.Statement {
	t.Helper()
	due, err := passive.Pending(t.Context(), conn)
	require.NoError(t, err)
	return due
}

// picture is what pg_dump writes of the side, and what it leaves out: the states of all triggers, and
// the copies of keys that partitions have. Known to differ afterwards, and left out, is what follows
// from the way in which PostgreSQL 15 is given a key: the copies on leaves count as their own too, and
// the rows that it keeps of a key for each referenced partition remain marked as not valid.
func (s side) picture(t *testing.T) string {
	t.Helper()
	conn := pgtest.Conn(t, s.owner, pg.WithParam("search_path", ""))
	var out strings.Builder
	for _, sql := range []string{
		`SELECT string_agg(t.tgrelid::regclass || ' ' || CASE WHEN k.contype = 'f' THEN t.tgfoid::regproc::text ELSE t.tgname END || ' ' || t.tgenabled::text, E'\n' ORDER BY t.tgrelid::regclass::text, t.tgfoid, t.tgname) FROM pg_trigger t LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint`,
		`SELECT string_agg(w.ev_class::regclass || ' ' || w.rulename || ' ' || w.ev_enabled::text, E'\n' ORDER BY 1, w.oid) FROM pg_rewrite w WHERE w.oid >= 16384 AND w.rulename <> '_RETURN'`,
		`SELECT string_agg(concat_ws(' ', k.conrelid::regclass, k.contypid::regtype, k.conname, k.convalidated, k.condeferrable, k.condeferred, k.coninhcount, (k.conislocal OR k.conparentid <> 0), (k.connoinherit OR k.conparentid <> 0), pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint')), E'\n'
			ORDER BY k.conrelid::regclass::text, k.conname, k.confrelid::regclass::text) FROM pg_constraint k LEFT JOIN pg_constraint p ON p.oid = k.conparentid
			WHERE k.connamespace::regnamespace::text IN ('app', '"we ird"') AND k.contype <> 't' AND k.conrelid IS DISTINCT FROM p.conrelid`,
		`SELECT string_agg(c.oid::regclass || ' ' || a.attname || ' ' || a.attidentity::text, E'\n' ORDER BY c.oid, a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attidentity <> ''`,
		`SELECT string_agg(c.oid::regclass || ' ' || c.relrowsecurity || ' ' || c.relforcerowsecurity, E'\n' ORDER BY c.oid) FROM pg_class c WHERE c.relrowsecurity OR c.relforcerowsecurity`,
	} {
		value := pgtest.Value(t, conn, sql)
		require.NotEmpty(t, value, sql)
		out.WriteString(value + "\n\n")
	}
	return out.String() + pairtest.DumpText(t, s.owner, nil)
}

// requireSame compares two pictures, and shows what differs alone.
func requireSame(t *testing.T, before, after string) {
	t.Helper()
	had, have := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, line := range had {
		if i := slices.Index(have, line); i >= 0 {
			have = slices.Delete(have, i, i+1)
		} else {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range have {
		t.Errorf("in addition: %s", line)
	}
	require.False(t, t.Failed() || len(before) != len(after))
}
