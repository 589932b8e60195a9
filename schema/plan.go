package schema

import (
	"slices"
	"strings"
)

// Part is a stage of the restore.
type Part string

// The parts, in the order in which they are restored.
const (
	PreData   Part = "pre-data"   // all that a row needs to be stored, and privileges
	AfterCopy Part = "after-copy" // indexes, constraints, statistics, policies
	Decision  Part = "decision"   // what reacts to writes: foreign keys, triggers, rules, row security
	Last      Part = "last"       // default privileges, event triggers, comments on what the decision made
)

// skipped is the part of entries that are never restored.
const skipped Part = ""

// Names of Crossfade's own objects on the source, which are never restored.
const (
	ownSchema  = "crossfade"
	ownTrigger = "zz_crossfade_fence"
)

// Plan is an archive's entries, split into parts. It is immutable and safe for
// concurrent use.
type Plan struct {
	Archive   *Archive // header and all entries
	PreData   []*Entry
	AfterCopy []*Entry
	Decision  []*Entry
	Last      []*Entry
	Notes     []Finding // entries that are left out and that the user should know of; all harmless

	parts  map[int]Part
	byID   map[int]*Entry
	tables map[int]uint32 // dump id → oid of the source's table that the entry belongs to
}

// NewPlan splits an archive. It relies on pg_dump's order, in which an entry
// comes behind what it depends on.
func NewPlan(a *Archive) *Plan {
	p := &Plan{
		Archive: a,
		parts:   make(map[int]Part, len(a.Entries)),
		byID:    make(map[int]*Entry, len(a.Entries)),
		tables:  make(map[int]uint32, len(a.Entries)),
	}
	for i := range a.Entries {
		p.byID[a.Entries[i].ID] = &a.Entries[i]
	}
	var acl []*Entry // of pre-data objects
	var aclLate []*Entry
	for i := range a.Entries {
		e := &a.Entries[i]
		part := p.place(e)
		p.parts[e.ID] = part
		p.tables[e.ID] = p.table(e)
		switch {
		case part == PreData && e.Kind == "ACL":
			acl = append(acl, e)
		case part == AfterCopy && e.Kind == "ACL":
			aclLate = append(aclLate, e)
		case part == PreData:
			p.PreData = append(p.PreData, e)
		case part == AfterCopy:
			p.AfterCopy = append(p.AfterCopy, e)
		case part == Decision:
			p.Decision = append(p.Decision, e)
		case part == Last:
			p.Last = append(p.Last, e)
		}
	}
	// Privileges follow the objects of their part, as pg_restore has it.
	p.PreData = append(p.PreData, acl...)
	p.AfterCopy = append(p.AfterCopy, aclLate...)
	slices.SortStableFunc(p.Last, func(a, b *Entry) int { return lastOrder(a) - lastOrder(b) })
	return p
}

// Entries returns the entries of a part, which stay the plan's.
func (p *Plan) Entries(part Part) []*Entry {
	switch part {
	case PreData:
		return p.PreData
	case AfterCopy:
		return p.AfterCopy
	case Decision:
		return p.Decision
	case Last:
		return p.Last
	}
	return nil
}

// Table returns the oid, on the source, of the table or materialised view that
// an index, constraint, trigger, rule or policy belongs to, 0 for other entries.
func (p *Plan) Table(e *Entry) uint32 { return p.tables[e.ID] }

// lastOrder puts event triggers behind everything that they might react to.
func lastOrder(e *Entry) int {
	if e.Kind == "EVENT TRIGGER" || strings.HasPrefix(e.Tag, "EVENT TRIGGER ") {
		return 1
	}
	return 0
}

// place decides on the part of an entry, whose dependencies have been placed:
// no earlier than theirs. What only says something of an object goes with it.
func (p *Plan) place(e *Entry) Part {
	part := p.classify(e)
	if part == skipped {
		return part
	}
	comment := e.Kind == "COMMENT" || e.Kind == "SECURITY LABEL"
	for _, id := range e.Dependencies {
		on, known := p.parts[id]
		switch {
		case !known:
		case on == skipped && (comment || e.Kind == "ACL") && p.byID[id].Section != SectionData:
			return skipped
		case on == Decision && comment:
			part = Last
		case order(on) > order(part):
			part = on
		}
	}
	return part
}

func order(part Part) int {
	return slices.Index([]Part{PreData, AfterCopy, Decision, Last}, part)
}

// classify decides on the part by an entry's kind alone.
func (p *Plan) classify(e *Entry) Part {
	if isOurs(e) || strings.TrimSpace(e.Definition) == "" {
		return skipped
	}
	switch e.Kind {
	case "ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES", "TABLESPACE", "STATISTICS DATA",
		"BLOB", "BLOBS", "BLOB METADATA", "BLOB COMMENTS":
		return skipped
	case "FK CONSTRAINT", "TRIGGER", "ROW SECURITY":
		return Decision
	case "RULE":
		if isViewRule(e) {
			return AfterCopy
		}
		return Decision
	case "ACL":
		if revokesFromOwner(e) {
			return Decision
		}
	case "DEFAULT ACL", "EVENT TRIGGER", "MATERIALIZED VIEW DATA":
		return Last
	}
	if strings.HasPrefix(e.Kind, "PUBLICATION") || strings.HasPrefix(e.Kind, "SUBSCRIPTION") {
		p.Notes = append(p.Notes, Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, Harmless: true,
			Message: "publications and subscriptions are not moved: create it on the target when you need it there"})
		return skipped
	}
	switch e.Section {
	case SectionData:
		return skipped
	case SectionPostData:
		return AfterCopy
	}
	return PreData
}

// isOurs reports whether an entry is of an object that Crossfade made.
func isOurs(e *Entry) bool {
	return e.Schema == ownSchema ||
		e.Kind == "SCHEMA" && e.Tag == ownSchema ||
		e.Kind == "TRIGGER" && strings.HasSuffix(e.Tag, " "+ownTrigger) ||
		(e.Kind == "COMMENT" || e.Kind == "ACL") && e.Tag == "SCHEMA "+ownSchema
}

// isViewRule reports whether a rule is the body of a view, which pg_dump
// creates late when it depends on a primary key.
func isViewRule(e *Entry) bool {
	for _, s := range split(e.Definition) {
		if s.word(0, "create") && s.find(1, "view") > 0 && s.find(1, "rule") < 0 {
			return true
		}
	}
	return false
}

// table finds the relation that an entry belongs to through its dependencies.
func (p *Plan) table(e *Entry) uint32 {
	switch e.Kind {
	case "TABLE", "MATERIALIZED VIEW", "FOREIGN TABLE", "VIEW":
		return e.OID
	case "INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "ROW SECURITY", "POLICY", "STATISTICS", "INDEX ATTACH":
	default:
		return 0
	}
	for _, id := range e.Dependencies {
		d := p.byID[id]
		if d == nil {
			continue
		}
		switch d.Kind {
		case "TABLE", "MATERIALIZED VIEW", "FOREIGN TABLE", "VIEW":
			return d.OID
		}
	}
	for _, id := range e.Dependencies {
		if oid := p.tables[id]; oid != 0 {
			return oid
		}
	}
	return 0
}
