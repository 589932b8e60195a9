package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
)

// PartitionedNotValid is the first major version that allows a foreign key of a
// partitioned table to be NOT VALID.
const PartitionedNotValid = 18

// Statement is one SQL text that the target has to execute. It may contain several statements, none
// of which ends the transaction. schema/passive keeps statements as JSON for longer than a program
// runs, so the names of its fields there stay as they are.
type Statement struct {
	ID     int    `json:"id,omitempty"` // dump id of the entry that it comes from, 0 for none
	Kind   string `json:"kind"`         // pg_dump's word, or IDENTITY, SETTING, VALIDATE, ITEM
	Schema string `json:"schema,omitempty"`
	Name   string `json:"name,omitempty"`
	SQL    string `json:"sql,omitempty"`
	Path   string `json:"path,omitempty"` // search_path under which it is executed, as SET takes it; "" for none
	Key    uint32 `json:"key,omitempty"`  // oid on the source of the foreign key that it validates or adds, 0 for none
	// Locks are the tables whose writers it keeps waiting, where RunAfter takes their locks first.
	Locks []pg.Name `json:"locks,omitempty"`
	// Exclusive are those of Locks whose readers it keeps waiting as well.
	Exclusive []pg.Name `json:"exclusive,omitempty"`
}

// DecisionConfig says what the statements are for.
type DecisionConfig struct {
	Source *catalog.Database // the source's catalog, as old as the archive
	Target int               // the target's major version
	Roles  map[string]string // the source's role names to the target's
	// Path is the search_path under which expressions are evaluated, as SET takes it; "" for none.
	Path string
}

// DecisionSQL is what makes the target react to writes.
type DecisionSQL struct {
	// Decide runs inside of the decision transaction, in this order. Foreign keys come without a
	// check of the rows. It sets the search_path to nothing for the rest of the transaction.
	Decide []Statement
	// After runs after it, each statement in a transaction of its own, and may
	// be begun again (see RunAfter): it validates the foreign keys and gives
	// partitioned tables theirs, which attach what their partitions have.
	After []Statement
}

// DecisionSQL returns the statements of the decision: rules, triggers and row
// security as the archive has them, foreign keys as NOT VALID, identity columns
// ALWAYS again, and the rows of crossfade.item for all of these.
func (p *Plan) DecisionSQL(cfg DecisionConfig) (DecisionSQL, error) {
	if cfg.Source == nil || cfg.Target == 0 {
		return DecisionSQL{}, fmt.Errorf("write decision: the source's catalog and the target's version are needed")
	}
	d := &decision{cfg: cfg, keys: map[uint32]*catalog.ForeignKey{}}
	for i := range cfg.Source.ForeignKeys {
		k := &cfg.Source.ForeignKeys[i]
		d.keys[k.OID] = k
	}
	d.decide(Statement{Kind: "SETTING", Name: "search_path", SQL: `SELECT pg_catalog.set_config('search_path', '', true)`})
	var items []string
	var rootItems []*archive.Entry
	for _, e := range p.Decision {
		if e.Kind == kindCheck {
			d.check(e)
			items = append(items, itemSQL(e, Decision))
			continue
		}
		if e.Kind != "FK CONSTRAINT" {
			sql, _ := Definition(e, Rewrite{Roles: cfg.Roles})
			d.decide(Statement{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, SQL: sql})
			items = append(items, itemSQL(e, Decision))
			continue
		}
		late, err := d.foreignKey(e)
		if err != nil {
			return DecisionSQL{}, fmt.Errorf("write decision: %w", err)
		}
		if late {
			rootItems = append(rootItems, e)
		} else {
			items = append(items, itemSQL(e, Decision))
		}
	}
	for _, s := range IdentityAlways(cfg.Source) {
		d.decide(s)
	}
	if len(items) > 0 {
		d.decide(Statement{Kind: "ITEM", Name: string(Decision), SQL: strings.Join(items, ";\n")})
	}
	d.sql.After = append(d.validate, d.sql.After...)
	for _, e := range rootItems {
		d.sql.After = append(d.sql.After, Statement{ID: e.ID, Kind: "ITEM", Schema: e.Schema, Name: e.Tag, SQL: itemSQL(e, Decision)})
	}
	return d.sql, nil
}

type decision struct {
	cfg      DecisionConfig
	keys     map[uint32]*catalog.ForeignKey // by oid on the source
	sql      DecisionSQL
	validate []Statement
}

func (d *decision) decide(s Statement) { d.sql.Decide = append(d.sql.Decide, s) }

// foreignKey adds the statements of one FK CONSTRAINT entry. late is true where
// the entry's own statement is to run after the decision.
func (d *decision) foreignKey(e *archive.Entry) (late bool, err error) {
	clause, valid, ok := foreignKeyClause(e.Definition)
	if !ok {
		return false, fmt.Errorf("foreign key %s of schema %s: cannot make out its definition: %.200q", e.Tag, e.Schema, e.Definition)
	}
	key := d.keys[e.OID]
	if key == nil {
		return false, fmt.Errorf("foreign key %s of schema %s (oid %d) is not in the source's catalog: read the catalog under the archive's snapshot", e.Tag, e.Schema, e.OID)
	}
	table := d.cfg.Source.Relation(key.Table)
	if table == nil {
		return false, fmt.Errorf("table with oid %d of foreign key %s is not in the source's catalog", key.Table, key.Name)
	}
	own := Statement{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, SQL: e.Definition, Key: key.OID}
	if !valid {
		d.decide(own)
		return false, nil
	}
	if table.Kind != catalog.KindPartitioned || d.cfg.Target >= PartitionedNotValid {
		own.SQL, _ = notValid(e.Definition)
		d.decide(own)
		d.validate = append(d.validate, validation(table.Name(), key.Name, key.OID))
		return false, nil
	}
	for _, leaf := range d.cfg.Source.Leaves(table) {
		name := d.leafName(key, leaf)
		d.decide(Statement{Kind: e.Kind, Schema: leaf.Schema, Name: leaf.Rel + " " + name,
			SQL: "ALTER TABLE ONLY " + leaf.Name().String() + " ADD CONSTRAINT " + pg.QuoteIdent(name) + " " + clause + " NOT VALID"})
		d.validate = append(d.validate, validation(leaf.Name(), name, key.OID))
	}
	own.Locks = []pg.Name{table.Name()}
	if other := d.cfg.Source.Relation(key.Referenced); other != nil {
		if other.OID != table.OID {
			own.Locks = append(own.Locks, other.Name())
		}
		// The keys of the leaves become part of this one, which removes their triggers of the table
		// that they refer to under an ACCESS EXCLUSIVE lock (RemoveTriggerById). To ask for that
		// lock while holding a weaker one would close a deadlock with every session that has read
		// the table and writes it next, and PostgreSQL would end that session at once.
		own.Exclusive = []pg.Name{other.Name()}
	}
	d.sql.After = append(d.sql.After, own)
	return true, nil
}

// check adds the statements of one check constraint that has an entry of its own: the
// rows are there, and are checked after the decision.
func (d *decision) check(e *archive.Entry) {
	own := Statement{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, SQL: e.Definition}
	var valid string
	if own.SQL, valid = checkNotValid(e.Definition); valid != "" {
		d.validate = append(d.validate, Statement{Kind: "VALIDATE", Schema: e.Schema, Name: e.Tag, SQL: valid, Path: d.cfg.Path})
	}
	d.decide(own)
}

// leafName is the name that a partition's copy of a key has on the source,
// which no other constraint of it can have, or else the key's own.
func (d *decision) leafName(root *catalog.ForeignKey, leaf *catalog.Relation) string {
	for _, k := range d.keys {
		if k.Table != leaf.OID {
			continue
		}
		for up := k; up != nil; up = d.keys[up.Inherited] {
			if up.OID == root.OID {
				return k.Name
			}
		}
	}
	return root.Name
}

// validation checks the rows of a key. Where a plain table references a partitioned one, PostgreSQL
// before 18 leaves the rows that it keeps per referenced partition marked as not valid; nothing
// follows from that, and pg_dump does not show them.
func validation(table pg.Name, constraint string, key uint32) Statement {
	return Statement{Kind: "VALIDATE", Key: key, Schema: table.Schema, Name: table.Name + " " + constraint,
		SQL: "ALTER TABLE " + table.String() + " VALIDATE CONSTRAINT " + pg.QuoteIdent(constraint)}
}

// IdentityByDefault returns what is to run after pre-data: columns GENERATED ALWAYS AS IDENTITY
// take the source's values only as BY DEFAULT. Running it again changes nothing.
func IdentityByDefault(source *catalog.Database) []Statement {
	return identity(source, "BY DEFAULT")
}

// IdentityAlways returns what takes IdentityByDefault back. It is part of the decision.
func IdentityAlways(source *catalog.Database) []Statement {
	return identity(source, "ALWAYS")
}

func identity(source *catalog.Database, kind string) []Statement {
	var out []Statement
	for _, r := range source.Relations {
		// From 17 on a partition's identity is its root's and is changed there.
		if r.Partition && source.Version >= 170000 {
			continue
		}
		changes := lists.Pick(r.Columns, func(c catalog.Column) (string, bool) {
			return "ALTER COLUMN " + pg.QuoteIdent(c.Name) + " SET GENERATED " + kind, c.Identity == catalog.IdentityAlways
		})
		if len(changes) > 0 {
			out = append(out, Statement{Kind: "IDENTITY", Schema: r.Schema, Name: r.Rel,
				SQL: "ALTER TABLE " + r.Name().String() + " " + strings.Join(changes, ", ")})
		}
	}
	return slices.Clip(out)
}

// itemSQL records an entry as restored.
func itemSQL(e *archive.Entry, part Part) string { return RecordItems(ItemRow(e.ID, e, part)) }

// RecordItems writes rows of crossfade.item.
func RecordItems(rows ...string) string {
	return "INSERT INTO crossfade.item (id, section, kind, nsp, name, done) VALUES " + strings.Join(rows, ", ") + " ON CONFLICT (id) DO UPDATE SET done = true"
}

func ItemRow(id int, e *archive.Entry, part Part) string {
	return "(" + strconv.Itoa(id) + ", " + pg.QuoteLiteral(string(part)) + ", " + pg.QuoteLiteral(e.Kind) + ", " + pg.QuoteLiteral(e.Schema) + ", " +
		pg.QuoteLiteral(e.Tag) + ", true)"
}
