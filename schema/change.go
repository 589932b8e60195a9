package schema

import (
	"crossfade/internal/pg"
	"fmt"
	"slices"
	"strings"
)

// Change is a property of an object that the source has otherwise than when the
// schema was restored on the target, and the target not as the source.
type Change struct {
	Kind, Schema, Name string // as pg_dump calls the object
	Property           string // "" for the object as a whole
	Source, Target     string // what either side has, "" for nothing
	SQL                string // what makes the target as the source, "" where that is not known
}

// String says what differs, for a person.
func (c Change) String() string {
	object := c.Object()
	what := c.Property
	if c.Kind == "ACL" && what != "" {
		what = "grants"
	}
	if what == "" {
		if c.Source != "" {
			return object + " was made on the source since the copy and is not on the target"
		}
		return object + " was dropped on the source since the copy and is on the target"
	}
	switch object += ": " + what; {
	case c.Target == "":
		return fmt.Sprintf("%s is new on the source since the copy: %s", object, shortened(c.Source))
	case c.Source == "":
		return fmt.Sprintf("%s is gone on the source since the copy, and on the target: %s", object, shortened(c.Target))
	}
	return fmt.Sprintf("%s is now on the source: %s; on the target: %s", object, shortened(c.Source), shortened(c.Target))
}

// Object names the object, for a person.
func (c Change) Object() string {
	kind, name := c.Kind, c.Name
	switch kind {
	case "COMMENT", "ACL", "SECURITY LABEL": // whose tag begins with the words for what they are of
		of := ""
		for word, rest, ok := strings.Cut(name, " "); ok && strings.ToUpper(word) == word && !strings.HasPrefix(word, `"`); word, rest, ok = strings.Cut(rest, " ") {
			of, name = of+" "+word, rest
		}
		kind = map[string]string{"COMMENT": "comment on", "ACL": "privileges on", "SECURITY LABEL": "security label on"}[kind] + of
	}
	if c.Schema != "" {
		name = c.Schema + "." + name
	}
	return kind + " " + name
}

// mostShown bounds how much of a definition stands in a message.
const mostShown = 200

func shortened(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > mostShown {
		return string(r[:mostShown]) + "…"
	}
	return s
}

// ChangesConfig says what is compared, and with which names.
type ChangesConfig struct {
	Rewrite         // as the kept archive was restored with, owners of the new one included
	Self     string // the target's role, which owns what no other role does
	Target   *Archive
	NoOwners bool
	// Missing are the values that rows have which are older than a column (MissingValues).
	Missing map[pg.Name]map[string]string
}

// Comparison holds a newer archive against the one that was restored.
type Comparison struct {
	kept, now *Plan
	pairs     []entryPair
}

// Compare brings a kept plan and one of a newer archive together, which must have
// the kept one's numbers (Continued).
func Compare(kept, now *Plan) *Comparison {
	c := &Comparison{kept: kept, now: now}
	for _, p := range renames(pairEntries(kept.Archive, now.Archive)) {
		if c.moved(p) {
			c.pairs = append(c.pairs, p)
		}
	}
	return c
}

// Pending reports whether anything differs that the target has been given already,
// so that it must be asked what it has. All else is taken from the newer archive.
func (c *Comparison) Pending() bool { return len(c.pairs) > 0 }

// applied reports whether the target has been given an entry.
func applied(p *Plan, e *Entry) bool {
	if e == nil {
		return false
	}
	part := p.parts[e.ID]
	return part == PreData || part == AfterCopy
}

// later reports whether an entry is still to be restored.
func later(p *Plan, e *Entry) bool {
	if e == nil {
		return false
	}
	part := p.parts[e.ID]
	return part == Decision || part == Last
}

// moved reports whether a pair differs in what the target has been given.
func (c *Comparison) moved(p entryPair) bool {
	switch {
	case !applied(c.kept, p.kept) && !applied(c.now, p.now):
		return false
	case p.kept == nil || p.now == nil || p.kept.Tag != p.now.Tag || p.kept.Schema != p.now.Schema || p.kept.Owner != p.now.Owner:
		return true
	}
	return p.kept.Definition != p.now.Definition || p.kept.AccessMethod != p.now.AccessMethod || applied(c.kept, p.kept) != applied(c.now, p.now)
}

// renames brings an entry that only the kept archive has together with one that only the
// newer one has, if they are of one object.
func renames(pairs []entryPair) []entryPair {
	type object struct {
		table, oid uint32
		kind       string
	}
	gone := map[object]int{}
	for i, p := range pairs {
		if p.now == nil && p.kept.OID != 0 && len(split(p.kept.Drop)) == 1 {
			gone[object{p.kept.TableOID, p.kept.OID, p.kept.Kind}] = i
		}
	}
	var out []entryPair
	joined := map[int]bool{}
	for i, p := range pairs {
		if p.kept == nil && p.now.OID != 0 {
			if at, ok := gone[object{p.now.TableOID, p.now.OID, p.now.Kind}]; ok && !joined[at] {
				joined[at], joined[i] = true, true
				out = append(out, entryPair{pairs[at].kept, p.now})
			}
		}
	}
	for i, p := range pairs {
		if !joined[i] {
			out = append(out, p)
		}
	}
	return out
}

// Changes lists what the target has not got as the source has it by now. What the target has been given by hand is not in it. Their statements can be
// executed in this order.
func (c *Comparison) Changes(cfg ChangesConfig) []Change {
	there := map[entryKey][]*Entry{}
	for i := range cfg.Target.Entries {
		e := &cfg.Target.Entries[i]
		there[e.key()] = append(there[e.key()], e)
	}
	gone := map[int]bool{}
	for _, p := range c.pairs {
		if p.now == nil {
			gone[p.kept.ID] = true
		}
	}
	var out []Change
	for _, p := range slices.Backward(c.pairs) { // what depends on others is dropped before them
		if p.now == nil && !goesAlong(p.kept, gone) {
			out = append(out, c.changes(p, there, cfg)...)
		}
	}
	for _, p := range c.pairs {
		if p.now != nil {
			out = append(out, c.changes(p, there, cfg)...)
		}
	}
	return out
}

// goesAlong reports whether an entry says something of an object that was dropped.
func goesAlong(e *Entry, gone map[int]bool) bool {
	return slices.Contains([]string{"COMMENT", "ACL", "SECURITY LABEL", "DEFAULT", "SEQUENCE OWNED BY"}, e.Kind) &&
		slices.ContainsFunc(e.Dependencies, func(id int) bool { return gone[id] })
}

func (c *Comparison) changes(p entryPair, there map[entryKey][]*Entry, cfg ChangesConfig) []Change {
	if p.kept != nil && p.now != nil && p.kept.key() != p.now.key() {
		if len(there[p.now.key()]) > 0 && len(there[p.kept.key()]) == 0 {
			return nil
		}
		return []Change{{Kind: p.kept.Kind, Schema: p.kept.Schema, Name: p.kept.Tag, Property: "name", Source: inFull(p.now), Target: inFull(p.kept), SQL: renameSQL(p.kept, p.now)}}
	}
	var base, want []fact
	if applied(c.kept, p.kept) {
		base = c.factsOf(p.kept, cfg)
	}
	if applied(c.now, p.now) || later(c.now, p.now) {
		want = c.factsOf(p.now, cfg)
	}
	e := p.now
	if e == nil {
		e = p.kept
	}
	have := c.target(e, base, want, there, cfg)
	differs := func(name string) bool {
		w, wanted := valueOf(want, name)
		b, based := valueOf(base, name)
		h, has := valueOf(have, name)
		if wanted == based && w.value == b.value || wanted && later(c.now, p.now) {
			return false // the same as ever, or still to come
		}
		return wanted != has || w.value != h.value
	}
	var names []string
	for _, f := range slices.Concat(base, want) {
		if !slices.Contains(names, f.name) && differs(f.name) {
			names = append(names, f.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	one := Change{Kind: e.Kind, Schema: e.Schema, Name: e.Tag}
	if len(base) > 0 && len(want) > 0 && slices.Contains(names, factOptions) && slices.ContainsFunc(slices.Concat(base, want), func(f fact) bool { return f.name == factOptions && strings.HasPrefix(f.value, "INHERITS") }) {
		names = []string{factOptions} // the columns that are listed follow from it
	}
	switch {
	case p.now == nil || len(want) == 0:
		one.Target, one.SQL = p.kept.Definition, dropSQL(p.kept)
		if e.Kind == "ACL" {
			return []Change{aclChange(one, names, want, have)}
		}
		return []Change{one}
	case len(base) == 0 && len(have) == 0:
		one.Source, one.SQL = p.now.Definition, c.makeSQL(p.now, cfg)
		return []Change{one}
	case e.Kind == "ACL":
		return []Change{aclChange(one, names, want, have)}
	}
	return propertyChanges(one, p, names, want, have, cfg.Missing[pg.Name{Schema: e.Schema, Name: e.Tag}])
}

func inFull(e *Entry) string {
	if e.Schema == "" {
		return e.Tag
	}
	return e.Schema + "." + e.Tag
}

// factsOf are those of an entry of the source in the target's names, with the
// owner that the object has or should have there.
func (c *Comparison) factsOf(e *Entry, cfg ChangesConfig) []fact {
	out := facts(e, cfg.Rewrite)
	if _, owned := ownerEntry(e); owned && !cfg.NoOwners {
		owner := cfg.Self
		if to, ok := cfg.Owners.Roles[e.Owner]; ok {
			owner = to
		}
		out = append(out, fact{factOwner, owner, owner})
	}
	return out
}

// target are the facts of the target's entry: of several with one name the one that is
// as wanted, or as it was.
func (c *Comparison) target(e *Entry, base, want []fact, there map[entryKey][]*Entry, cfg ChangesConfig) []fact {
	var best []fact
	rank := 0
	for _, t := range there[e.key()] {
		got := facts(t, Rewrite{})
		if _, owned := ownerEntry(t); owned && !cfg.NoOwners {
			got = append(got, fact{factOwner, t.Owner, t.Owner})
		}
		g, _ := valueOf(got, factDefinition)
		w, _ := valueOf(want, factDefinition)
		b, _ := valueOf(base, factDefinition)
		r := 0
		switch {
		case g.value == w.value:
			r = 3
		case g.value == b.value:
			r = 2
		case e.Kind != "OPERATOR": // whose types are not in its name
			r = 1
		}
		if r > rank {
			best, rank = got, r
		}
	}
	return best
}
