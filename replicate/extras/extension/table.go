package extension

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Table is a configuration table of an extension, or a sequence so marked.
type Table struct {
	OID        uint32 // on the source
	Extension  string
	Name       pg.Name
	Sequence   bool
	Condition  string            // "" or "WHERE …"
	Columns    []string          // without generated ones; of tables
	References []uint32          // tables that it has foreign keys to
	values     map[string]string // column → SQL of what is read instead of it
}

const tablesQuery = `SELECT c.oid, e.extname::text, n.nspname::text, c.relname::text, c.relkind = 'S', f.condition,
	ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum),
	ARRAY(SELECT k.confrelid FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> c.oid)
	FROM pg_catalog.pg_extension e
	CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)) AS f(relid, condition)
	JOIN pg_catalog.pg_class c ON c.oid = f.relid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'S') ORDER BY e.extname, n.nspname, c.relname`

// Tables lists the configuration tables of a database, referenced ones first.
func Tables(ctx context.Context, conn *pgx.Conn) ([]Table, error) {
	rows, _ := conn.Query(ctx, tablesQuery)
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		err = row.Scan(&t.OID, &t.Extension, &t.Name.Schema, &t.Name.Name, &t.Sequence, &t.Condition, &t.Columns, &t.References)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list configuration tables of extensions: %w", err)
	}
	return sorted(tables), nil
}

// sorted puts referenced tables first. Tables that refer to one another in a
// circle keep their order.
func sorted(tables []Table) []Table {
	var out []Table
	placed := map[uint32]bool{}
	for len(tables) > 0 {
		waiting := lists.SetOf(tables, func(t Table) uint32 { return t.OID })
		i := slices.IndexFunc(tables, func(t Table) bool {
			return !slices.ContainsFunc(t.References, func(oid uint32) bool { return waiting[oid] && !placed[oid] })
		})
		i = max(i, 0)
		out, placed[tables[i].OID] = append(out, tables[i]), true
		tables = slices.Delete(slices.Clone(tables), i, i+1)
	}
	return out
}

// columns is the list of columns for a COPY, with parentheses where wanted.
func (t Table) columns() string {
	quoted := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		quoted[i] = pg.QuoteIdent(c)
	}
	return strings.Join(quoted, ", ")
}

func (t Table) exists() string {
	return fmt.Sprintf("SELECT EXISTS (SELECT FROM ONLY %s %s)", t.Name, t.Condition)
}

func (t Table) out() string {
	read := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		if read[i] = t.values[c]; read[i] == "" {
			read[i] = pg.QuoteIdent(c)
		}
	}
	return fmt.Sprintf("COPY (SELECT %s FROM ONLY %s %s) TO STDOUT", strings.Join(read, ", "), t.Name, t.Condition)
}

// cron is the extension whose rows name roles and databases.
const cron = "pg_cron"

// isJobs reports whether the table holds jobs, which SyncJobs carries over.
func (t Table) isJobs() bool { return t.Extension == cron && t.Name.Name == "job" }

// translated has the table's rows name the target's roles and database.
func (t Table) translated(roles map[string]string, database string) Table {
	if t.Extension != cron {
		return t
	}
	role := "username"
	for _, from := range slices.Sorted(maps.Keys(roles)) {
		role = "CASE username WHEN " + pg.QuoteLiteral(from) + " THEN " + pg.QuoteLiteral(roles[from]) + " ELSE " + role + " END"
	}
	t.values = map[string]string{"username": role,
		"database": "CASE database WHEN pg_catalog.current_database() THEN " + pg.QuoteLiteral(database) + " ELSE database END"}
	return t
}

func (t Table) in() string { return fmt.Sprintf("COPY %s (%s) FROM STDIN", t.Name, t.columns()) }

func (t Table) remove() string { return fmt.Sprintf("DELETE FROM ONLY %s %s", t.Name, t.Condition) }
