package changes_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/changes"
	"crossfade/schema/finding"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// changed dumps the source again and holds it against the plan that was restored.
func changed(t *testing.T, p *pairtest.Pair, kept *plan.Plan) (*plan.Plan, []finding.Change) {
	t.Helper()
	now := plan.New(changes.Continued(kept.Archive, readArchive(t, p, true)))
	c := changes.Compare(kept, now)
	if !c.Pending() {
		return now, nil
	}
	return now, c.Changes(changes.Config{Rewrite: plan.Rewrite{Roles: p.Roles, Database: p.Target.Database()}, Self: p.Target.User(), Target: readArchive(t, p, false)})
}

func readArchive(t *testing.T, p *pairtest.Pair, source bool) *archive.Archive {
	t.Helper()
	dsn := p.Target
	if source {
		dsn = p.Source
	}
	data, err := archive.Dump(t.Context(), archive.DumpConfig{DSN: dsn})
	require.NoError(t, err)
	a, err := plan.ParseArchive(data)
	require.NoError(t, err)
	return a
}

// Each change of what the target has been given is told with object and property, and with the
// statement that makes the target the same; once that has run nothing is told any more.
func TestChangesAreToldAndCanBeMade(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	source, target := pgtest.Conn(t, p.Source), pgtest.Conn(t, p.Target)
	pgtest.Exec(t, source, `CREATE TABLE app.plain (id int PRIMARY KEY, v text, w varchar(10) NOT NULL, n int DEFAULT 1, CONSTRAINT n_pos CHECK (n > 0)) WITH (fillfactor = 50);
		CREATE TABLE app.other (id int PRIMARY KEY, a int, b int, c int, d int); CREATE VIEW app.v AS SELECT id FROM app.plain; CREATE INDEX plain_v ON app.plain (v); CREATE INDEX plain_n ON app.plain (n);
		CREATE INDEX other_d ON app.other (d); CREATE FUNCTION app.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION app.two() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SEQUENCE app.seq CYCLE;
		CREATE DOMAIN app.dom AS text; CREATE POLICY pol ON app.plain USING (id > 0); CREATE POLICY pol2 ON app.plain USING (id > 0); COMMENT ON TABLE app.other IS 'old'; COMMENT ON COLUMN app.other.a IS 'a';
		GRANT SELECT, INSERT ON app.plain TO `+p.Reader+`; GRANT SELECT ON app.other TO PUBLIC; CREATE TYPE app.level AS ENUM ('low', 'high'); CREATE SEQUENCE app.gone; CREATE STATISTICS app.st ON v, w FROM app.plain;
		ALTER TABLE app.other ADD CONSTRAINT uq UNIQUE (c); CREATE VIEW app.old_view AS SELECT 1 AS one`)
	kept, db := p.Plan(t)
	p.Restore(t, kept, plan.PreData, 1)
	require.NoError(t, restore.Run(t.Context(), target, plan.IdentityByDefault(db)))
	p.Restore(t, kept, plan.AfterCopy, 1)
	_, all := changed(t, p, kept)
	require.Empty(t, all, "nothing was changed")

	for _, sql := range takenLater() {
		pgtest.Exec(t, source, strings.ReplaceAll(sql, "READER", p.Reader))
	}
	_, all = changed(t, p, kept)
	require.Empty(t, all, "all of it belongs to the decision or follows it")

	for _, c := range toldChanges {
		pgtest.Exec(t, source, strings.ReplaceAll(strings.ReplaceAll(c.sql, "READER", p.Reader), "OWNER", p.Source.User()))
	}
	now, all := changed(t, p, kept)
	var said []string
	for _, c := range all {
		said = append(said, c.String()+" | "+c.SQL)
	}
	for _, c := range toldChanges {
		require.True(t, slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, c.says) }), "%s: %q is not in\n%s", c.sql, c.says, strings.Join(said, "\n"))
	}
	for _, c := range all {
		if c.SQL == "" {
			require.True(t, slices.ContainsFunc(toldChanges, func(x toldChange) bool { return x.byHand != "" && strings.Contains(c.String(), x.says) }), "no statement for %s", c)
			continue
		}
		_, err := target.PgConn().Exec(context.Background(), "SET search_path = ''; "+c.SQL).ReadAll()
		require.NoError(t, err, "%s: %s", c, c.SQL)
	}
	for _, c := range toldChanges {
		if c.byHand != "" {
			pgtest.Exec(t, target, strings.ReplaceAll(c.byHand, "OWNER", p.Target.User()))
		}
	}
	_, all = changed(t, p, kept)
	require.Empty(t, all)

	// The rest comes from the new archive, and both sides are the same.
	db, err := catalog.Read(t.Context(), source)
	require.NoError(t, err)
	sql, err := now.DecisionSQL(plan.DecisionConfig{Source: db, Target: db.Version / 10000, Roles: p.Roles})
	require.NoError(t, err)
	pairtest.InTx(t, target, func() error { return restore.Run(t.Context(), target, sql.Decide) })
	pairtest.RunAfter(t, target, sql.After)
	p.Restore(t, now, plan.Last, 1)
	require.Equal(t, pairtest.DumpText(t, p.Source, p.Roles), pairtest.DumpText(t, p.Target, nil))
}

// takenLater are changes that need nobody's hand.
func takenLater() []string {
	return []string{"ALTER TABLE app.plain ENABLE ROW LEVEL SECURITY", "ALTER TABLE app.loose DISABLE ROW LEVEL SECURITY", "ALTER TABLE app.customer DISABLE TRIGGER touch", "ALTER TABLE app.customer ENABLE TRIGGER \"Off\"",
		"CREATE TRIGGER fresh BEFORE INSERT ON app.plain FOR EACH ROW EXECUTE FUNCTION app.touch()", "DROP TRIGGER always ON app.customer", "ALTER TABLE app.\"Order\" DROP CONSTRAINT order_parent",
		"ALTER TABLE app.plain ADD CONSTRAINT fk FOREIGN KEY (n) REFERENCES app.other (id)", "CREATE RULE r AS ON DELETE TO app.plain DO INSTEAD NOTHING", "DROP RULE audit_keep ON app.audit",
		"ALTER TABLE app.customer ALTER COLUMN id SET GENERATED BY DEFAULT", "ALTER TABLE app.customer ALTER COLUMN second SET GENERATED ALWAYS", "ALTER DEFAULT PRIVILEGES IN SCHEMA app REVOKE SELECT ON TABLES FROM READER",
		"COMMENT ON TRIGGER touch ON app.customer IS 'other'"}
}

// toldChange is a change that someone has to make on the target too.
type toldChange struct {
	sql, says string
	byHand    string // where no statement is given: what does it
}

var toldChanges = []toldChange{
	{sql: "ALTER TABLE app.plain ADD COLUMN extra text DEFAULT 'x'", says: "TABLE app.plain: column extra is new on the source"},
	{sql: "ALTER TABLE app.plain DROP COLUMN v CASCADE", says: "TABLE app.plain: column v is gone"},
	{sql: "ALTER TABLE app.plain ALTER w TYPE varchar(20), ALTER w DROP NOT NULL", says: "w character varying(20); on the target: w character varying(10) NOT NULL"},
	{sql: "ALTER TABLE app.plain ALTER n SET DEFAULT 2", says: "n integer DEFAULT 2"},
	{sql: "ALTER TABLE app.plain DROP CONSTRAINT n_pos, ADD CONSTRAINT n_neg CHECK (n < 9)", says: "constraint n_pos is gone"},
	{sql: "ALTER TABLE app.plain SET (fillfactor = 60)", says: "SET (fillfactor='60')"},
	{sql: "ALTER TABLE app.other RENAME a TO z", says: "name of column a"},
	{sql: "ALTER TABLE app.other ALTER b SET STATISTICS 70", says: "SET STATISTICS 70"},
	{sql: "ALTER TABLE app.other REPLICA IDENTITY FULL", says: "REPLICA IDENTITY FULL"},
	{sql: "ALTER TABLE app.loose NO FORCE ROW LEVEL SECURITY", says: "NO FORCE ROW LEVEL SECURITY"},
	{sql: "ALTER TABLE app.other CLUSTER ON other_pkey", says: "CLUSTER ON other_pkey"},
	{sql: "CREATE INDEX fresh_index ON app.other (b)", says: "INDEX app.fresh_index was made"},
	{sql: "DROP INDEX app.plain_n", says: "INDEX app.plain_n was dropped"},
	{sql: "ALTER INDEX app.other_d RENAME TO other_d2", says: "INDEX app.other_d: name"},
	{sql: "ALTER TABLE app.other RENAME CONSTRAINT uq TO uq2", says: "CONSTRAINT app.other uq: name"},
	{sql: "CREATE OR REPLACE VIEW app.v AS SELECT id, id + 1 AS next FROM app.plain", says: "VIEW app.v: definition"},
	{sql: "DROP VIEW app.old_view", says: "VIEW app.old_view was dropped"},
	{sql: "CREATE OR REPLACE FUNCTION app.one() RETURNS int LANGUAGE sql AS 'SELECT 2'", says: "FUNCTION app.one(): definition"},
	{sql: "ALTER FUNCTION app.two() RENAME TO three", says: "ALTER FUNCTION app.two() RENAME TO three"},
	{sql: "CREATE FUNCTION app.more(a int, b text DEFAULT ';') RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END", says: "FUNCTION app.more(integer, text) was made"},
	{sql: "ALTER SEQUENCE app.seq INCREMENT 7 NO CYCLE", says: "SEQUENCE app.seq: definition"},
	{sql: "ALTER SEQUENCE app.gone SET SCHEMA public", says: "ALTER SEQUENCE app.gone SET SCHEMA"},
	{sql: "ALTER DOMAIN app.dom SET NOT NULL", says: "DOMAIN app.dom: definition", byHand: "ALTER DOMAIN app.dom SET NOT NULL"},
	{sql: "ALTER POLICY pol ON app.plain USING (id > 1)", says: "POLICY app.plain pol: definition"},
	{sql: "ALTER POLICY pol2 ON app.plain RENAME TO pol3", says: "POLICY app.plain pol2: name"},
	{sql: "COMMENT ON TABLE app.other IS 'new'", says: "comment on TABLE app.other: definition"},
	{sql: "COMMENT ON VIEW app.v IS 'new'", says: "comment on VIEW app.v was made"},
	{sql: "REVOKE INSERT ON app.plain FROM READER", says: "privileges on TABLE app.plain"},
	{sql: "REVOKE SELECT ON app.other FROM PUBLIC", says: "privileges on TABLE app.other"},
	{sql: "GRANT USAGE ON SEQUENCE app.seq TO READER", says: "privileges on SEQUENCE app.seq"},
	{sql: "GRANT UPDATE (b) ON app.other TO READER", says: "privileges on COLUMN app.other.b"},
	{sql: "ALTER TYPE app.level ADD VALUE 'middle' BEFORE 'high'", says: "TYPE app.level: label 'middle'"},
	{sql: "ALTER STATISTICS app.customer_stat SET STATISTICS 5", says: "STATISTICS app.customer_stat: SET STATISTICS"},
	{sql: "CREATE SCHEMA fresh", says: "SCHEMA fresh was made"},
	{sql: "CREATE EXTENSION lo SCHEMA public", says: "EXTENSION lo was made"},
	{sql: "CREATE AGGREGATE app.total2(int) (SFUNC = pg_catalog.int4pl, STYPE = int)", says: "AGGREGATE app.total2(integer) was made"},
	{sql: "CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq)", says: "OPERATOR app.=== was made"},
	{sql: "CREATE CAST (app.mood AS app.level) WITH INOUT", says: "CAST CAST (app.mood AS app.level) was made"},
	{sql: "CREATE COLLATION app.other_plain FROM \"C\"", says: "COLLATION app.other_plain was made"},
	{sql: "ALTER TABLE app.derived NO INHERIT app.base", says: "TABLE app.derived: options"},
}

// An entry that both archives have keeps its number, whatever else came or went.
func TestContinuedKeepsNumbers(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	kept := readArchive(t, p, true)
	pgtest.Exec(t, pgtest.Conn(t, p.Source), `CREATE TABLE app.aaa (id int PRIMARY KEY); DROP VIEW app.by_customer; CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq);
		ALTER DATABASE `+p.Source.Database()+` SET work_mem = '9MB'`)
	raw := readArchive(t, p, true)
	now := changes.Continued(kept, raw)
	require.Equal(t, now, changes.Continued(kept, raw))
	byID := map[int]archive.Entry{}
	for _, e := range kept.Entries {
		byID[e.ID] = e
	}
	seen := map[int]bool{}
	fresh := 0
	for i, e := range now.Entries {
		require.False(t, seen[e.ID])
		seen[e.ID] = true
		require.Len(t, e.Dependencies, len(raw.Entries[i].Dependencies))
		if old, ok := byID[e.ID]; ok {
			require.Equal(t, changes.KeyOf(&old), changes.KeyOf(&e))
		} else {
			fresh++
		}
	}
	require.Equal(t, 5, fresh, "table, its key and privileges, operator, properties")
	tables := map[int]bool{}
	for _, e := range now.Entries {
		if e.Kind == "TABLE" {
			tables[e.ID] = true
		}
		if e.Kind == "INDEX" && e.Tag == "customer_name" {
			require.True(t, slices.ContainsFunc(e.Dependencies, func(id int) bool { return tables[id] }))
		}
	}
}
