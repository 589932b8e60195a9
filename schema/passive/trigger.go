package passive

import (
	"context"
	"fmt"
	"slices"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

// states are the statements by which a trigger or a rule gets its state, by pg_trigger.tgenabled and
// pg_rewrite.ev_enabled.
var states = map[string]string{enabled: "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}

// enabled is the state that triggers and rules have when they are made.
const enabled = "O"

// acting are the states to be set aside: in replica mode others do not act.
func (f finder) acting() []string {
	if f.replica {
		return []string{"A", "R"}
	}
	return []string{enabled, "A", "R"}
}

// setState is the statement that changes a trigger or a rule of one table, and of none below it: each
// partition's copy has a state of its own.
func setState(table *catalog.Relation, kind, name, state string) plan.Statement {
	return plan.Statement{Kind: kind, Schema: table.Schema, Name: table.Rel + " " + name,
		SQL: "ALTER TABLE ONLY " + table.Name().String() + " " + states[state] + " " + kind + " " + pg.QuoteIdent(name)}
}

type trigger struct {
	oid, table       uint32
	name, state      string
	key              bool   // it is part of a foreign key
	parent           uint32 // trigger that a partition has it from, 0 for none
	definition, text string // text: its comment
	comment          bool
}

// triggersQuery reads the triggers that users have made, and the copies of these that partitions
// have, which servers before 15 mark as internal; and those of foreign keys.
const triggersQuery = `
SELECT t.oid, t.tgrelid, t.tgname::text, t.tgenabled::text, coalesce(k.contype = 'f', false), coalesce(p.refobjid, 0),
	pg_catalog.pg_get_triggerdef(t.oid), coalesce(d.description, ''), d.objoid IS NOT NULL
FROM pg_catalog.pg_trigger t
LEFT JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint
LEFT JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND p.objid = t.oid AND p.refclassid = p.classid AND p.deptype = 'P'
LEFT JOIN pg_catalog.pg_description d ON d.classoid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.objoid = t.oid
WHERE t.tgname <> '` + catalog.OwnTrigger + `' AND (t.tgconstraint = 0 OR k.contype IN ('t', 'f'))
ORDER BY t.tgrelid, t.tgname`

// triggers disables triggers. Those of foreign keys that act in replica mode are disabled with the
// others; elsewhere they go with their keys.
func (f finder) triggers(ctx context.Context) error {
	all, err := pg.Select(ctx, f.conn, func(t *trigger) []any {
		return []any{&t.oid, &t.table, &t.name, &t.state, &t.key, &t.parent, &t.definition, &t.text, &t.comment}
	}, triggersQuery)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(t trigger) bool { return f.table(t.table) == nil || t.key && !f.replica })
	byOID := lists.By(all, func(t trigger) uint32 { return t.oid })
	whole := map[uint32]bool{} // those that are dropped with their copies
	for _, t := range all {
		if t.parent != 0 && !t.key && !f.role.clones && slices.Contains(f.acting(), t.state) {
			whole[copied(byOID, t)] = true
		}
	}
	for _, t := range all {
		table := f.table(t.table)
		switch {
		case whole[t.oid]:
			f.dropTrigger(t)
		case whole[copied(byOID, t)]:
			if t.state != enabled {
				return fmt.Errorf("trigger %s of partition %s is in the state %s TRIGGER, which this server lets only a superuser restore", t.name, table.Name().Display(), states[t.state])
			}
		case slices.Contains(f.acting(), t.state):
			f.work.lock(false, table)
			f.work.off = append(f.work.off, setState(table, "TRIGGER", t.name, "D").SQL)
			f.work.decide = append(f.work.decide, setState(table, "TRIGGER", t.name, t.state))
		}
	}
	return nil
}

// copied is the trigger of the uppermost partitioned table that a partition has its own from; any
// other trigger's is its own.
func copied(all map[uint32]trigger, t trigger) uint32 {
	for t.parent != 0 {
		up, ok := all[t.parent]
		if !ok {
			break
		}
		t = up
	}
	return t.oid
}

// dropTrigger drops a partitioned table's trigger, and with it the copies of partitions, whose state
// a server before 15 lets only a superuser change. They come back with it, enabled.
func (f finder) dropTrigger(t trigger) {
	table := f.table(t.table)
	on := pg.QuoteIdent(t.name) + " ON " + table.Name().String()
	f.work.lock(true, f.tree(table)...)
	f.work.off = append(f.work.off, "DROP TRIGGER "+on)
	f.work.decide = append(f.work.decide, plan.Statement{Kind: "TRIGGER", Schema: table.Schema, Name: table.Rel + " " + t.name, SQL: t.definition})
	if t.state != enabled {
		f.work.decide = append(f.work.decide, setState(table, "TRIGGER", t.name, t.state))
	}
	if t.comment {
		f.work.decide = append(f.work.decide, comment(table.Schema, table.Rel+" "+t.name, "TRIGGER "+on, t.text))
	}
}

type rule struct {
	table       uint32
	name, state string
}

// rules disables rules. Views, whose rules cannot be disabled, are not written by a stream.
func (f finder) rules(ctx context.Context) error {
	all, err := pg.Select(ctx, f.conn, func(r *rule) []any { return []any{&r.table, &r.name, &r.state} },
		`SELECT w.ev_class, w.rulename::text, w.ev_enabled::text FROM pg_catalog.pg_rewrite w ORDER BY w.ev_class, w.rulename`)
	if err != nil {
		return err
	}
	for _, r := range all {
		table := f.table(r.table)
		if table == nil || !slices.Contains(f.acting(), r.state) {
			continue
		}
		f.work.lock(true, table)
		f.work.off = append(f.work.off, setState(table, "RULE", r.name, "D").SQL)
		f.work.decide = append(f.work.decide, setState(table, "RULE", r.name, r.state))
	}
	return nil
}
