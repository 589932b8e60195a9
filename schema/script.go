package schema

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
)

// relkindPartitioned is pg_class.relkind of a partitioned table.
const relkindPartitioned = 'p'

// script is what is sent to the target for one entry.
type script struct {
	entry    *Entry
	part     Part
	sql      string
	findings []Finding // of statements that were left out beforehand
}

// script makes the statements of an entry.
func (r *restorer) script(e *Entry) script {
	s := script{entry: e, part: r.part}
	s.sql, s.findings = definition(e, r.cfg.Roles)
	return s
}

// definition returns an entry's own SQL, as the target shall execute it: owners
// and tablespaces are the target's, unlogged relations are logged, roles are mapped.
func definition(e *Entry, roles map[string]string) (string, []Finding) {
	sql := e.Definition
	var findings []Finding
	switch {
	case mentionsRoles(e.Kind):
		var left []string
		sql, left = mapRoles(sql, roles)
		for _, statement := range left {
			findings = append(findings, Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, Harmless: true,
				Message: "left out, since the role belongs to the source's platform: " + statement})
		}
	case e.Kind == "TABLE" || e.Kind == "SEQUENCE":
		sql = logged(sql)
	}
	if e.AccessMethod == "" || e.Kind != "TABLE" && e.Kind != "MATERIALIZED VIEW" {
		return sql, findings
	}
	if e.RelKind == relkindPartitioned {
		return sql + "\n;ALTER TABLE " + pg.Name{Schema: e.Schema, Name: e.Tag}.String() +
			" SET ACCESS METHOD " + pg.QuoteIdent(e.AccessMethod), findings
	}
	return "SET LOCAL default_table_access_method = " + pg.QuoteIdent(e.AccessMethod) + ";\n" + sql, findings
}

// run executes scripts, with the rows of crossfade.item that say so, in one
// transaction and one round trip.
func run(ctx context.Context, conn *pgx.Conn, scripts ...script) error {
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	for _, s := range scripts {
		// The line break ends a comment that the definition may end in.
		b.WriteString(s.sql + "\n;\n" + itemSQL(s.entry, s.part) + ";\n")
	}
	b.WriteString("COMMIT;")
	_, err := conn.PgConn().Exec(ctx, b.String()).ReadAll()
	if err != nil && conn.PgConn().TxStatus() != 'I' && !conn.IsClosed() {
		if _, back := conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); back != nil {
			return fmt.Errorf("roll back after %w: %w", err, back)
		}
	}
	return err
}

// itemSQL records an entry as restored.
func itemSQL(e *Entry, part Part) string {
	return "INSERT INTO crossfade.item (id, section, kind, nsp, name, done) VALUES (" + strconv.Itoa(e.ID) + ", " +
		pg.QuoteLiteral(string(part)) + ", " + pg.QuoteLiteral(e.Kind) + ", " + pg.QuoteLiteral(e.Schema) + ", " +
		pg.QuoteLiteral(e.Tag) + ", true) ON CONFLICT (id) DO UPDATE SET done = true"
}
