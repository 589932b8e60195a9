package plan

import (
	"slices"
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
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

// Parts are all of them, in that order.
var Parts = []Part{PreData, AfterCopy, Decision, Last}

// skipped is the part of entries that are never restored.
const skipped Part = ""

// Plan is an archive's entries, split into parts. It is immutable and safe for concurrent use.
type Plan struct {
	Archive   *archive.Archive // header and all entries
	PreData   []*archive.Entry
	AfterCopy []*archive.Entry
	Decision  []*archive.Entry
	Last      []*archive.Entry
	Notes     []finding.Finding // entries that are left out and that the user should know of; all harmless

	Parts  map[int]Part
	ByID   map[int]*archive.Entry
	tables map[int]uint32 // dump id → oid of the source's table that the entry belongs to
}

// New splits an archive. It relies on pg_dump's order, in which an entry
// comes after what it depends on.
func New(a *archive.Archive) *Plan {
	p := &Plan{
		Archive: a,
		Parts:   make(map[int]Part, len(a.Entries)),
		ByID:    make(map[int]*archive.Entry, len(a.Entries)),
		tables:  make(map[int]uint32, len(a.Entries)),
	}
	for i := range a.Entries {
		p.ByID[a.Entries[i].ID] = &a.Entries[i]
	}
	lists := map[Part]*partList{PreData: {}, AfterCopy: {}, Decision: {}, Last: {}}
	added := addedEntries(a)
	for i := range a.Entries {
		e := &a.Entries[i]
		part := p.place(e)
		p.Parts[e.ID] = part
		p.tables[e.ID] = p.table(e)
		if part != skipped {
			lists[part].add(e)
		}
		for _, x := range added[e.ID] {
			if part := p.placeAdded(x, part); part != skipped {
				p.ByID[x.ID], p.Parts[x.ID] = x, part
				lists[part].add(x)
			}
		}
	}
	p.PreData, p.AfterCopy, p.Decision, p.Last = lists[PreData].all(), lists[AfterCopy].all(), lists[Decision].all(), lists[Last].all()
	slices.SortStableFunc(p.Last, func(a, b *archive.Entry) int { return lastOrder(a) - lastOrder(b) })
	return p
}

// partList gathers the entries of a part: owners are set when all objects are
// there, and privileges, which may take from an owner what making a trigger or a
// foreign key needs, follow at the end, as pg_restore has it.
type partList struct{ objects, owners, rights []*archive.Entry }

func (l *partList) add(e *archive.Entry) {
	switch e.Kind {
	case KindOwner:
		l.owners = append(l.owners, e)
	case "ACL":
		l.rights = append(l.rights, e)
	default:
		l.objects = append(l.objects, e)
	}
}

func (l *partList) all() []*archive.Entry {
	slices.SortStableFunc(l.owners, ownerOrder)
	return slices.Concat(l.objects, l.owners, l.rights)
}

// addedEntries makes the entries that are no archive's: by the id of the entry
// that they come from, those that set owners and the single properties of the
// database. The same archive gives the same ids.
func addedEntries(a *archive.Archive) map[int][]*archive.Entry {
	out := map[int][]*archive.Entry{}
	last := a.LastID()
	for i := range a.Entries {
		e := &a.Entries[i]
		if o, ok := OwnerEntry(e); ok {
			out[e.ID] = append(out[e.ID], &o)
		}
		if e.Kind == KindProperties {
			for _, x := range properties(e, func() int { last++; return -last }) {
				out[e.ID] = append(out[e.ID], &x)
			}
		}
	}
	return out
}

// placeAdded decides on the part of an entry that was added to one in part of.
func (p *Plan) placeAdded(x *archive.Entry, of Part) Part {
	switch {
	case x.Kind == KindProperties:
		return Last
	case of == Decision: // a decision must not fail over an owner
		return Last
	}
	return of
}

// Entries returns the entries of a part, which stay the plan's.
func (p *Plan) Entries(part Part) []*archive.Entry {
	return map[Part][]*archive.Entry{PreData: p.PreData, AfterCopy: p.AfterCopy, Decision: p.Decision, Last: p.Last}[part]
}

// All returns the entries of all parts, in their order.
func (p *Plan) All() []*archive.Entry {
	return slices.Concat(p.PreData, p.AfterCopy, p.Decision, p.Last)
}

// Table returns the oid, on the source, of the table or materialised view that
// an index, constraint, trigger, rule or policy belongs to, 0 for other entries.
func (p *Plan) Table(e *archive.Entry) uint32 { return p.tables[e.ID] }

// OID returns the oid, on the source, of the object of the entry with this number, 0 if
// there is no such entry.
func (p *Plan) OID(id int) uint32 {
	if e := p.ByID[id]; e != nil {
		return e.OID
	}
	return 0
}

// lastOrder puts event triggers after everything that they might react to.
func lastOrder(e *archive.Entry) int {
	if e.Kind == "EVENT TRIGGER" || strings.HasPrefix(e.Tag, "EVENT TRIGGER ") {
		return 1
	}
	return 0
}

// place decides on the part of an entry, whose dependencies have been placed:
// no earlier than theirs. What only says something of an object goes with it.
func (p *Plan) place(e *archive.Entry) Part {
	part := p.classify(e)
	if part == skipped {
		return part
	}
	comment := e.Kind == "COMMENT" || e.Kind == "SECURITY LABEL"
	if OfDatabase(e) {
		return Last
	}
	for _, id := range e.Dependencies {
		on, known := p.Parts[id]
		switch {
		case !known:
		case on == skipped && (comment || e.Kind == "ACL") && p.ByID[id].Section != archive.SectionData:
			return skipped
		case on == Decision && comment:
			part = Last
		case Order(on) > Order(part):
			part = on
		}
	}
	return part
}

// Order is the place of a part among them.
func Order(part Part) int { return slices.Index(Parts, part) }

// classify decides on the part by an entry's kind alone.
func (p *Plan) classify(e *archive.Entry) Part {
	if isOurs(e) || strings.TrimSpace(e.Definition) == "" {
		return skipped
	}
	switch e.Kind {
	case "ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES", "TABLESPACE", "STATISTICS DATA",
		"BLOB", "BLOBS", "BLOB METADATA", "BLOB COMMENTS":
		return skipped
	case "FK CONSTRAINT", kindCheck, "TRIGGER", "ROW SECURITY":
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
		p.Notes = append(p.Notes, finding.Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, Harmless: true,
			Message: "publications and subscriptions are not moved: create it on the target when you need it there"})
		return skipped
	}
	switch e.Section {
	case archive.SectionData:
		return skipped
	case archive.SectionPostData:
		return AfterCopy
	}
	return PreData
}

// isOurs reports whether an entry is of an object that Crossfade made.
func isOurs(e *archive.Entry) bool {
	return e.Schema == catalog.OwnSchema ||
		e.Kind == "SCHEMA" && e.Tag == catalog.OwnSchema ||
		e.Kind == "TRIGGER" && strings.HasSuffix(e.Tag, " "+catalog.OwnTrigger) ||
		(e.Kind == "COMMENT" || e.Kind == "ACL") && e.Tag == "SCHEMA "+catalog.OwnSchema
}

// isViewRule reports whether a rule is the body of a view, which pg_dump
// creates late when it depends on a primary key.
func isViewRule(e *archive.Entry) bool {
	return slices.ContainsFunc(sqltext.Split(e.Definition), func(s sqltext.Statement) bool {
		return s.Word(0, "create") && s.Find(1, "view") > 0 && s.Find(1, "rule") < 0
	})
}

// table finds the relation that an entry belongs to through its dependencies.
func (p *Plan) table(e *archive.Entry) uint32 {
	switch e.Kind {
	case "TABLE", "MATERIALIZED VIEW", "FOREIGN TABLE", "VIEW":
		return e.OID
	case "INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "ROW SECURITY", "POLICY", "STATISTICS", "INDEX ATTACH":
	default:
		return 0
	}
	for _, id := range e.Dependencies {
		d := p.ByID[id]
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
