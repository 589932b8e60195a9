package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
)

// codesOfPresence are SQLSTATEs of a refusal because something is there already: an index, a
// constraint, a second primary key, an index that has its constraint.
var codesOfPresence = []string{pg.CodeDuplicateObject, pg.CodeDuplicateTable, pg.CodeInvalidTable, pg.CodeObjectNotInState}

// presence is what the target has in the place of an entry.
type presence struct {
	same bool
	rest string // what of the definition is still to be executed
	// differs says how what is there differs from what is wanted, "" where nothing is known.
	differs string
	drop    string // what makes room, if it is not what drops the entry's object
}

// present looks whether the target has already what a script makes, which someone else has made: an
// index or a constraint with the same definition is no error.
func (r *restorer) present(ctx context.Context, conn *pgx.Conn, s script, refused *pgconn.PgError) (presence, error) {
	statements := sqltext.Split(s.sql)
	if !slices.Contains(codesOfPresence, refused.Code) || len(statements) == 0 {
		return presence{}, nil
	}
	for i, x := range statements {
		var p presence
		var err error
		switch {
		case x.Word(0, "create") && (x.Word(1, "index") || x.Words(1, "unique", "index")):
			p, err = r.presentIndex(ctx, conn, s.entry, x)
		case x.Word(0, "alter") && x.Find(2, "add") > 0 && x.Word(x.Find(2, "add")+1, "constraint"):
			p, err = r.presentConstraint(ctx, conn, s.entry, x)
		default:
			continue
		}
		if i+1 < len(statements) {
			p.rest = s.sql[statements[i].End:]
		}
		return p, err
	}
	return presence{}, nil
}

// presentIndex compares an index with CREATE INDEX as a server prints it.
func (r *restorer) presentIndex(ctx context.Context, conn *pgx.Conn, e *archive.Entry, wanted sqltext.Statement) (presence, error) {
	at := wanted.Find(1, "index")
	name, ok := wanted.Identifier(at + 1)
	if !ok {
		return presence{}, nil
	}
	var there string
	var valid bool
	err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_get_indexdef(i.indexrelid), i.indisvalid AND i.indisready
		FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
		WHERE n.nspname OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=) $2`, e.Schema, name).Scan(&there, &valid)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return presence{differs: "the name is that of something else", drop: "ALTER TABLE " + pg.Name{Schema: e.Schema, Name: name}.String() + " RENAME TO " + pg.QuoteIdent(pg.ExtendName(name, "_before"))}, nil
	case err != nil:
		return presence{}, fmt.Errorf("look at index %s: %w", name, err)
	case plainIndex(there) != plainIndex(wanted.Text()):
		return presence{differs: "it is there as " + there}, nil
	case !valid && !wanted.Words(at+2, "on", "only"): // one of a partitioned table becomes valid with those of the partitions
		return presence{differs: "it is there and not valid: a statement that made it has failed, or has not ended"}, nil
	}
	return presence{same: true}, nil
}

// presentConstraint compares a constraint with ALTER … ADD CONSTRAINT.
func (r *restorer) presentConstraint(ctx context.Context, conn *pgx.Conn, e *archive.Entry, wanted sqltext.Statement) (presence, error) {
	add := wanted.Find(2, "add")
	name, ok := wanted.Identifier(add + 2)
	from := 2
	if wanted.Word(from, "only") {
		from++
	}
	if !ok || from >= add {
		return presence{}, nil
	}
	of, class := "c.conrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)", wanted.Between(from, add)
	if wanted.Word(1, "domain") {
		of = "c.contypid OPERATOR(pg_catalog.=) pg_catalog.to_regtype($1)"
	}
	var there, index string
	var deferrable, deferred bool
	err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_get_constraintdef(c.oid), CASE WHEN c.contype IN ('p', 'u') THEN pg_catalog.pg_get_indexdef(c.conindid) ELSE '' END, c.condeferrable, c.condeferred
		FROM pg_catalog.pg_constraint c WHERE `+of+` AND c.conname OPERATOR(pg_catalog.=) $2`, class, name).Scan(&there, &index, &deferrable, &deferred)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return r.inTheWay(ctx, conn, e, class, name)
	case err != nil:
		return presence{}, fmt.Errorf("look at constraint %s: %w", name, err)
	}
	differs := presence{differs: "it is there as " + there}
	p, parted := partIndex(e)
	if index == "" || !parted {
		if normal(there) != normal(wanted.Between(add+3, len(wanted.Tokens))) {
			return differs, nil
		}
		return presence{same: true}, nil
	}
	rest := sqltext.Split(p.rest)[0]
	kind := map[bool]string{true: "PRIMARY KEY", false: "UNIQUE"}[rest.Find(add, "primary") > 0]
	switch {
	case !strings.HasPrefix(there, kind):
		return differs, nil
	case plainIndex(index) != plainIndex(p.index):
		return presence{differs: "it is there with " + index}, nil
	case deferrable != (rest.Find(add, "deferrable") > 0) || deferred != (rest.Find(add, "deferred") > 0):
		return differs, nil
	}
	return presence{same: true}, nil
}

// inTheWay says what keeps a constraint from being made that is not there: an index of its
// name, or the table's primary key under another name.
func (r *restorer) inTheWay(ctx context.Context, conn *pgx.Conn, e *archive.Entry, table, name string) (presence, error) {
	var p presence
	err := conn.QueryRow(ctx, `SELECT 'there is ' OPERATOR(pg_catalog.||) pg_catalog.pg_get_indexdef(i.indexrelid), 'DROP INDEX ' OPERATOR(pg_catalog.||) i.indexrelid::pg_catalog.regclass::pg_catalog.text
		FROM pg_catalog.pg_index i WHERE i.indexrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($2) AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conindid OPERATOR(pg_catalog.=) i.indexrelid)
		UNION ALL SELECT pg_catalog.format('the table has %I %s', c.conname, pg_catalog.pg_get_constraintdef(c.oid)), pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::pg_catalog.regclass, c.conname)
		FROM pg_catalog.pg_constraint c WHERE c.conrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1) AND c.contype OPERATOR(pg_catalog.=) 'p' AND $3 LIMIT 1`,
		table, pg.Name{Schema: e.Schema, Name: name}.String(), strings.Contains(e.Definition, " PRIMARY KEY ")).Scan(&p.differs, &p.drop)
	if errors.Is(err, pgx.ErrNoRows) {
		return presence{}, nil
	}
	return p, pg.Wrap(err, "look for what is in the way of constraint %s", name)
}

// normal is a statement in one form: its tokens with a blank between them.
func normal(sql string) string {
	return strings.Join(lists.Pick(sqltext.All(sql), func(t sqltext.Token) (string, bool) {
		return sql[t.Start:t.End], sql[t.Start:t.End] != ";"
	}), " ")
}

// plainIndex is normal for CREATE INDEX, without the access method that is the default.
func plainIndex(sql string) string {
	return strings.Replace(normal(sql), " USING btree ", " ", 1)
}

// parted is an entry whose index is built by a statement of its own: one that
// shares its table with other builds, while the rest needs the table for itself.
type parted struct {
	index string // CREATE INDEX
	rest  string // what follows it, "" for nothing
}

// partIndex separates a plain index from the statements after it, and splits a primary key or
// unique constraint into an index and a constraint that uses it. ok is false for everything else:
// partitioned tables and constraints WITHOUT OVERLAPS cannot use an existing index.
func partIndex(e *archive.Entry) (p parted, ok bool) {
	statements := sqltext.Split(e.Definition)
	if len(statements) == 0 {
		return parted{}, false
	}
	first := statements[0]
	rest := strings.TrimSpace(e.Definition[first.End:])
	switch e.Kind {
	case "INDEX":
		return parted{index: first.Text(), rest: rest}, first.Word(0, "create")
	case "CONSTRAINT":
		p, ok = indexOfConstraint(first)
		if rest != "" {
			p.rest += ";\n" + rest
		}
		return p, ok
	}
	return parted{}, false
}

// indexOfConstraint reads ALTER TABLE ONLY t ADD CONSTRAINT c PRIMARY KEY (…), as
// pg_dump writes it, with all that may follow.
func indexOfConstraint(s sqltext.Statement) (parted, bool) {
	add := s.Find(3, "add")
	if !s.Words(0, "alter", "table", "only") || add < 0 || !s.Word(add+1, "constraint") {
		return parted{}, false
	}
	if _, named := s.Identifier(add + 2); !named {
		return parted{}, false
	}
	at, kind := add+4, "UNIQUE"
	if s.Words(add+3, "primary", "key") {
		at, kind = add+5, "PRIMARY KEY"
	} else if !s.Word(add+3, "unique") {
		return parted{}, false
	}
	nulls := ""
	if s.Words(at, "nulls", "not", "distinct") {
		at, nulls = at+3, " NULLS NOT DISTINCT"
	}
	columns, at, ok := s.Parentheses(at)
	if !ok || strings.Contains(strings.ToUpper(columns), " WITHOUT OVERLAPS") {
		return parted{}, false
	}
	index := columns
	if s.Word(at, "include") {
		var included string
		if included, at, ok = s.Parentheses(at + 1); !ok {
			return parted{}, false
		}
		index += " INCLUDE " + included
	}
	index += nulls
	if s.Word(at, "with") {
		var options string
		if options, at, ok = s.Parentheses(at + 1); !ok {
			return parted{}, false
		}
		index += " WITH " + options
	}
	tail := ""
	if at < len(s.Tokens) {
		if !s.Word(at, "deferrable") {
			return parted{}, false
		}
		tail = " " + s.SQL[s.Tokens[at].Start:s.Tokens[len(s.Tokens)-1].End]
	}
	table := s.SQL[s.Tokens[3].Start:s.Tokens[add-1].End]
	name := s.SQL[s.Tokens[add+2].Start:s.Tokens[add+2].End]
	return parted{
		index: "CREATE UNIQUE INDEX " + name + " ON " + table + " " + index,
		rest:  "ALTER TABLE ONLY " + table + " ADD CONSTRAINT " + name + " " + kind + " USING INDEX " + name + tail,
	}, true
}
