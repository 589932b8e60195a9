package fingerprint

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
)

// Kinds of what a RowIdentity is of, as pg_class and pg_type have them.
const (
	identityTable = "r"
	identityType  = "c"
	identityEnum  = "e"
)

// RowIdentity is that of a table, a composite type or an enum which says whether
// what rows hold can have changed without a change of a row: a column's number and
// the version of its entry in the catalog, the file of a table, the number of a
// label. Two of one object are told apart by RowsKept.
type RowIdentity struct {
	Kind string         `json:"k"`
	Name pg.Name        `json:"n"`
	File uint32         `json:"f,omitempty"` // of a table
	Part []PartIdentity `json:"p"`           // columns by number, labels
}

// PartIdentity is that of a column, an attribute or a label.
type PartIdentity struct {
	Num     int64  `json:"i"`           // attnum; oid of a label
	Name    string `json:"n"`           // "" for a dropped column
	Version string `json:"x"`           // the transaction that wrote the entry
	Content string `json:"c"`           // digest of the entry without its name
	Filled  bool   `json:"d,omitempty"` // the server fills it in: a default or an identity, not generated
	// Missing is the value that rows have which are older than the column; nil for
	// NULL, and for a column whose value stands in every row.
	Missing *string `json:"m,omitempty"`
	// Added and Born are of a column that was made since the first identity: what
	// Missing was when it was first seen.
	Added bool    `json:"a,omitempty"`
	Born  *string `json:"b,omitempty"`
}

const identityQuery = `
SELECT c.oid, c.relkind::text, n.nspname::text, c.relname::text, CASE c.relkind WHEN 'r' THEN c.relfilenode ELSE 0 END, coalesce((
	SELECT pg_catalog.json_agg(pg_catalog.json_build_object('i', a.attnum, 'n', CASE WHEN a.attisdropped THEN '' ELSE a.attname END, 'x', a.xmin::text,
		'c', pg_catalog.md5(ROW(a.atttypid, a.atttypmod, a.attnotnull, a.atthasdef, a.attidentity, a.attgenerated, a.attcollation, a.attacl, a.attoptions, a.attfdwoptions,
			a.attstattarget, a.attstorage, a.attislocal, a.attinhcount)::text),
		'd', a.attgenerated = '' AND (a.atthasdef OR a.attidentity <> ''), 'm', CASE WHEN a.atthasmissing THEN a.attmissingval::text END) ORDER BY a.attnum)
	FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), '[]')::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'c') AND c.relpersistence <> 't' AND ` + catalog.UserSchema + ` AND ` + catalog.OfNoExtension + `
UNION ALL
SELECT t.oid, 'e', n.nspname::text, t.typname::text, 0, (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('i', l.oid::int8, 'n', l.enumlabel, 'x', l.xmin::text,
	'c', '') ORDER BY l.oid) FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid)::text
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype = 'e' AND ` + catalog.UserSchema + `
	AND EXISTS (SELECT FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid)`

// ReadRowIdentities reads those of all tables, composite types and enums of the
// application, by oid, in one statement and the caller's transaction, if any.
func ReadRowIdentities(ctx context.Context, conn *pgx.Conn) (map[uint32]RowIdentity, error) {
	rows, _ := conn.Query(ctx, identityQuery)
	out := map[uint32]RowIdentity{}
	var oid uint32
	var r RowIdentity
	var parts string
	_, err := pgx.ForEachRow(rows, []any{&oid, &r.Kind, &r.Name.Schema, &r.Name.Name, &r.File, &parts}, func() error {
		one := r
		if err := json.Unmarshal([]byte(parts), &one.Part); err != nil {
			return err
		}
		out[oid] = one
		return nil
	})
	return out, pg.Wrap(err, "read identities of columns")
}

// Equal reports whether two identities are the same in every part.
func (r RowIdentity) Equal(other RowIdentity) bool {
	return r.Kind == other.Kind && r.Name == other.Name && r.File == other.File && slices.EqualFunc(r.Part, other.Part, func(a, b PartIdentity) bool {
		return a.Num == b.Num && a.Name == b.Name && a.Version == b.Version && a.Content == b.Content && sameValue(a.Missing, b.Missing) &&
			a.Added == b.Added && sameValue(a.Born, b.Born)
	})
}

func sameValue(a, b *string) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// what is the word for a part.
func (r RowIdentity) what() string {
	switch r.Kind {
	case identityEnum:
		return "label"
	case identityType:
		return "attribute"
	}
	return "column"
}

// RowsKept reports why rows may hold something else than the changes that were
// followed have made of them, "" where that is excluded: between was and now no
// part took another's name, and no entry of a column changed while the table was
// rewritten. Where it is excluded, next is what the following call compares with.
func RowsKept(was, now RowIdentity) (why string, next RowIdentity) {
	rewritten := was.File != now.File
	before, names := map[int64]PartIdentity{}, map[string]int64{}
	for _, p := range was.Part {
		before[p.Num] = p
		if p.Name != "" {
			names[p.Name] = p.Num
		}
	}
	next = now
	next.Part = slices.Clone(now.Part)
	var altered, passed []string // versions changed; of these, with the content as before
	goneNew := false             // a column that was made and dropped since
	for i, p := range now.Part {
		old, known := before[p.Num]
		if p.Name == "" {
			goneNew = goneNew || !known
			continue
		}
		if holder, taken := names[p.Name]; taken && holder != p.Num {
			return fmt.Sprintf("%s %s is not the one that it was: it was dropped and made again, or names were exchanged", now.what(), p.Name), was
		}
		if !known {
			switch {
			case goneNew && now.Kind != identityEnum:
				return fmt.Sprintf("%s %s was made after another new one was dropped, which may have had its name", now.what(), p.Name), was
			case rewritten && p.Filled && p.Missing == nil:
				return fmt.Sprintf("column %s was added with a value that was computed for each row", p.Name), was
			}
			next.Part[i].Added, next.Part[i].Born = now.Kind == identityTable, p.Missing
			continue
		}
		next.Part[i].Added, next.Part[i].Born = old.Added, old.Born
		if old.Version != p.Version {
			altered = append(altered, p.Name)
			if old.Content == p.Content && old.Name == p.Name {
				passed = append(passed, p.Name)
			}
		}
	}
	switch {
	case rewritten && len(altered) > 0:
		return fmt.Sprintf("column %s was altered and the table was rewritten, as ALTER COLUMN … TYPE … USING does", strings.Join(altered, ", ")), was
	case len(passed) > 1:
		return fmt.Sprintf("%ss %s were altered and look as before: their names may have been exchanged for a while", now.what(), strings.Join(passed, ", ")), was
	}
	return "", next
}

// AddedAlike reports in what a column that was added to one table on both sides
// differs in the rows that were there before it, "" for nothing.
func AddedAlike(source, target RowIdentity) string {
	at := lists.By(target.Part, func(p PartIdentity) string { return p.Name })
	for _, p := range source.Part {
		if t, ok := at[p.Name]; ok && p.Name != "" && (p.Added || t.Added) && !(p.Added && t.Added && sameValue(p.Born, t.Born)) {
			return fmt.Sprintf("column %s was added, and rows that were there before it have %s on the source and %s on the target", p.Name, born(p), born(t))
		}
	}
	return ""
}

func born(p PartIdentity) string {
	switch {
	case !p.Added:
		return "a value of their own"
	case p.Born == nil:
		return "NULL"
	}
	return strings.TrimSuffix(strings.TrimPrefix(*p.Born, "{"), "}")
}

// IdentityNames maps the names of what identities are of to their oids.
func IdentityNames(all map[uint32]RowIdentity) map[string]uint32 {
	out := make(map[string]uint32, len(all))
	for oid, r := range maps.All(all) {
		out[r.Key()] = oid
	}
	return out
}

// Key names what the identity is of, the same on both sides.
func (r RowIdentity) Key() string { return r.Kind + " " + r.Name.Display() }

// Display names what the identity is of, for a person.
func (r RowIdentity) Display() string {
	if r.Kind == identityTable {
		return "table " + r.Name.Display()
	}
	return "type " + r.Name.Display()
}

// IsTable reports whether the identity is of a table.
func (r RowIdentity) IsTable() bool { return r.Kind == identityTable }
