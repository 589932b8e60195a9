package schema

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
	"crossfade/schema/catalog"
)

// relkindPartitioned is pg_class.relkind of a partitioned table.
const relkindPartitioned = 'p'

// script is what is sent to the target for one entry.
type script struct {
	entry    *Entry
	part     Part
	sql      string
	path     string    // search_path under which it is executed, "" for none
	half     bool      // it is the index of a constraint that is still to be added
	findings []Finding // of statements that were left out beforehand
}

// item is the key of the script's row in crossfade.item: the dump id, negative
// for an index whose entry is not done with it.
func (s script) item() int {
	if s.half {
		return -s.entry.ID
	}
	return s.entry.ID
}

// script makes the statements of an entry.
func (r *restorer) script(e *Entry) script {
	s := script{entry: e, part: r.part}
	s.sql, s.findings = definition(e, r.cfg.Rewrite)
	if evaluates(e) {
		s.path = r.cfg.Path
	}
	return s
}

// Rewrite says what is changed in the definitions of the source.
type Rewrite struct {
	// Roles maps the source's role names to the target's. A role that is not in
	// it keeps its name.
	Roles map[string]string
	// Owners are the owners that objects get; without any they stay with the role
	// that restores.
	Owners Owners
	// Database is the name of the target's database, whose properties, comment and
	// privileges become the source's; "" to leave them as they are.
	Database string
	// Disordered are the source's tables whose columns CREATE TABLE … INHERITS would put
	// into another order, and Major is the target's version, which making them asks for.
	Disordered []catalog.Disordered
	Major      int
	// Path is the search_path under which expressions that call users' functions are
	// evaluated, as SET takes it; "" for none.
	Path string
	// KeepUnlogged leaves unlogged tables and sequences unlogged.
	KeepUnlogged bool
}

// definition returns an entry's own SQL, as the target shall execute it. It is ""
// where nothing is to be done.
func definition(e *Entry, w Rewrite) (string, []Finding) {
	sql := e.Definition
	var findings []Finding
	if ofDatabase(e) {
		if w.Database == "" {
			return "", nil
		}
		sql = ofTarget(sql, w.Database)
	}
	switch {
	case e.Kind == kindOwner:
		return ownerSQL(e, w.Owners), nil
	case mentionsRoles(e.Kind):
		var left []string
		sql, left = mapRoles(sql, w.Roles)
		for _, statement := range left {
			message := "left out, since the role belongs to the source's platform"
			if e.Kind != kindProperties { // whose value may be a secret
				message += ": " + statement
			}
			findings = append(findings, Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, Harmless: true, Message: message})
		}
	case (e.Kind == "TABLE" || e.Kind == "SEQUENCE") && !w.KeepUnlogged:
		sql = logged(sql)
	}
	if e.Kind == "TABLE" || e.Kind == "FOREIGN TABLE" {
		for _, d := range w.Disordered {
			if d.OID == e.OID {
				sql = ordered(sql, d, w.Major)
			}
		}
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
	items := make([]string, len(scripts))
	for i, s := range scripts {
		if s.path != "" {
			b.WriteString("SET LOCAL search_path = " + s.path + ";\n")
		}
		// The line break ends a comment that the definition may end in.
		b.WriteString(s.sql + "\n;\n")
		if s.path != "" {
			b.WriteString("SET LOCAL search_path = '';\n")
		}
		items[i] = itemRow(s.item(), s.entry, s.part)
	}
	b.WriteString(recordItems(items...) + ";\n")
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
func itemSQL(e *Entry, part Part) string { return recordItems(itemRow(e.ID, e, part)) }

// recordItems writes rows of crossfade.item.
func recordItems(rows ...string) string {
	return "INSERT INTO crossfade.item (id, section, kind, nsp, name, done) VALUES " + strings.Join(rows, ", ") + " ON CONFLICT (id) DO UPDATE SET done = true"
}

func itemRow(id int, e *Entry, part Part) string {
	return "(" + strconv.Itoa(id) + ", " + pg.QuoteLiteral(string(part)) + ", " + pg.QuoteLiteral(e.Kind) + ", " + pg.QuoteLiteral(e.Schema) + ", " +
		pg.QuoteLiteral(e.Tag) + ", true)"
}
