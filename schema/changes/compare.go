package changes

import (
	"cmp"
	"slices"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// Config says what is compared, and with which names.
type Config struct {
	plan.Rewrite        // as the kept archive was restored with, owners of the new one included
	Self         string // the target's role, which owns what no other role does
	Target       *archive.Archive
	NoOwners     bool
	// Missing are the values that rows have which are older than a column (MissingValues).
	Missing map[pg.Name]map[string]string

	along along // found by Changes
}

// Comparison holds a newer archive against the one that was restored.
type Comparison struct {
	kept, now *plan.Plan
	pairs     []entryPair
}

// Compare brings a kept plan and one of a newer archive together, which must have
// the kept one's numbers (Continued).
func Compare(kept, now *plan.Plan) *Comparison {
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
func applied(p *plan.Plan, e *archive.Entry) bool {
	return e != nil && slices.Contains([]plan.Part{plan.PreData, plan.AfterCopy}, p.Parts[e.ID])
}

// later reports whether an entry is still to be restored.
func later(p *plan.Plan, e *archive.Entry) bool {
	return e != nil && slices.Contains([]plan.Part{plan.Decision, plan.Last}, p.Parts[e.ID])
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
		if p.now == nil && p.kept.OID != 0 && len(sqltext.Split(p.kept.Drop)) == 1 {
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

// Changes lists what the target has not got as the source has it by now. What the target has been
// given by hand is not in it. Their statements can be executed in this order.
func (c *Comparison) Changes(cfg Config) []finding.Change {
	there := map[entryKey][]*archive.Entry{}
	for i := range cfg.Target.Entries {
		e := &cfg.Target.Entries[i]
		there[keyOf(e)] = append(there[keyOf(e)], e)
	}
	cfg.along = c.along(there, cfg)
	kept, now := tablesOf(c.kept.Archive), tablesOf(c.now.Archive)
	of := func(p entryPair, all []finding.Change) []finding.Change {
		table := ""
		if p.kept != nil {
			table = kept.of(p.kept)
		} else {
			table = now.of(p.now)
		}
		for i := range all {
			all[i].Table = table
		}
		return all
	}
	var out []finding.Change
	for _, p := range slices.Backward(c.pairs) { // what depends on others is dropped before them
		if p.now == nil && !cfg.along.entry(p.kept) {
			out = append(out, of(p, c.changes(p, there, cfg))...)
		}
	}
	for _, p := range c.pairs {
		if p.now != nil {
			out = append(out, of(p, c.changes(p, there, cfg))...)
		}
	}
	return out
}

// tableNames are the tables of an archive by their entries' numbers.
type tableNames map[int]shownTable

type shownTable struct {
	at   int // place in the archive
	name string
}

func tablesOf(a *archive.Archive) tableNames {
	names := tableNames{}
	for i := range a.Entries {
		if e := &a.Entries[i]; e.Kind == "TABLE" {
			names[e.ID] = shownTable{i, pg.Name{Schema: e.Schema, Name: e.Tag}.Display()}
		}
	}
	return names
}

// of shows the table that an entry is, or depends on directly: the first of the archive, "" for
// none.
func (n tableNames) of(e *archive.Entry) string {
	first := n[e.ID]
	if e.Kind == "TABLE" {
		return first.name
	}
	for _, id := range e.Dependencies {
		if t, ok := n[id]; ok && (first.name == "" || t.at < first.at) {
			first = t
		}
	}
	return first.name
}

// goesAlong reports whether an entry says something of an object that was dropped.
func goesAlong(e *archive.Entry, gone map[int]bool) bool {
	return slices.Contains([]string{"COMMENT", "ACL", "SECURITY LABEL", "DEFAULT", "SEQUENCE OWNED BY"}, e.Kind) &&
		slices.ContainsFunc(e.Dependencies, func(id int) bool { return gone[id] })
}

func (c *Comparison) changes(p entryPair, there map[entryKey][]*archive.Entry, cfg Config) []finding.Change {
	if p.kept != nil && p.now != nil && keyOf(p.kept) != keyOf(p.now) {
		if len(there[keyOf(p.now)]) > 0 && len(there[keyOf(p.kept)]) == 0 {
			return nil
		}
		return []finding.Change{{Kind: p.kept.Kind, Schema: p.kept.Schema, Name: p.kept.Tag, Property: "name", Source: inFull(p.now), Target: inFull(p.kept), SQL: renameSQL(p.kept, p.now)}}
	}
	var base, want []fact
	if applied(c.kept, p.kept) {
		base = c.factsOf(p.kept, cfg)
	}
	if applied(c.now, p.now) || later(c.now, p.now) {
		want = c.factsOf(p.now, cfg)
	}
	e := cmp.Or(p.now, p.kept)
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
	names := lists.AddNew(nil, lists.Pick(slices.Concat(base, want), func(f fact) (string, bool) {
		return f.name, differs(f.name) && !cfg.along.fact(p, f)
	})...)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(dropRank(a, want, have), dropRank(b, want, have)) })
	if len(names) == 0 {
		return nil
	}
	one := finding.Change{Kind: e.Kind, Schema: e.Schema, Name: e.Tag}
	if len(base) > 0 && len(want) > 0 && slices.Contains(names, factOptions) && slices.ContainsFunc(slices.Concat(base, want), func(f fact) bool { return f.name == factOptions && strings.HasPrefix(f.value, "INHERITS") }) {
		names = []string{factOptions} // the columns that are listed follow from it
	}
	switch {
	case p.now == nil || len(want) == 0:
		one.Target, one.SQL = p.kept.Definition, dropSQL(p.kept)
		if e.Kind == "ACL" {
			return []finding.Change{aclChange(one, names, want, have)}
		}
		return []finding.Change{one}
	case len(base) == 0 && len(have) == 0:
		one.Source, one.SQL = p.now.Definition, c.makeSQL(p.now, cfg)
		return []finding.Change{one}
	case e.Kind == "ACL":
		return []finding.Change{aclChange(one, names, want, have)}
	}
	return propertyChanges(one, p, names, want, have, cfg.Missing[pg.Name{Schema: e.Schema, Name: e.Tag}])
}

// dropRank orders what is told of a table: a generated column is dropped before those that it is
// made from.
func dropRank(name string, want, have []fact) int {
	_, wanted := valueOf(want, name)
	h, has := valueOf(have, name)
	if has && !wanted && strings.HasPrefix(name, prefixColumn) && clausesOf(h.text).generated != "" {
		return 0
	}
	return 1
}

func inFull(e *archive.Entry) string {
	if e.Schema == "" {
		return e.Tag
	}
	return e.Schema + "." + e.Tag
}

// factsOf returns the facts of an entry of the source under the target's names, with the owner that
// the object has or should have there.
func (c *Comparison) factsOf(e *archive.Entry, cfg Config) []fact {
	out := facts(e, cfg.Rewrite)
	if _, owned := plan.OwnerEntry(e); owned && !cfg.NoOwners {
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
func (c *Comparison) target(e *archive.Entry, base, want []fact, there map[entryKey][]*archive.Entry, cfg Config) []fact {
	var best []fact
	rank := 0
	for _, t := range there[keyOf(e)] {
		got := facts(t, plan.Rewrite{})
		if _, owned := plan.OwnerEntry(t); owned && !cfg.NoOwners {
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

// entryKey names an entry in any archive. More than one entry may have it: the
// tag of an operator lacks its types.
type entryKey struct{ kind, schema, tag string }

func keyOf(e *archive.Entry) entryKey { return entryKey{e.Kind, e.Schema, e.Tag} }

// entryPair is an entry in two archives; one may be nil.
type entryPair struct{ kept, now *archive.Entry }

// pairEntries brings two archives of one database together, by names and, where
// several entries have one, by what they say, by object and by order.
func pairEntries(kept, now *archive.Archive) []entryPair {
	there := map[entryKey][]*archive.Entry{}
	for i := range now.Entries {
		e := &now.Entries[i]
		there[keyOf(e)] = append(there[keyOf(e)], e)
	}
	partner := make(map[*archive.Entry]*archive.Entry, len(kept.Entries))
	for _, alike := range []func(a, b *archive.Entry) bool{
		func(a, b *archive.Entry) bool { return a.Definition == b.Definition && a.Owner == b.Owner },
		func(a, b *archive.Entry) bool { return a.OID != 0 && a.OID == b.OID && a.TableOID == b.TableOID },
		func(*archive.Entry, *archive.Entry) bool { return true },
	} {
		for i := range kept.Entries {
			e := &kept.Entries[i]
			if partner[e] != nil {
				continue
			}
			list := there[keyOf(e)]
			if n := slices.IndexFunc(list, func(x *archive.Entry) bool { return alike(e, x) }); n >= 0 {
				partner[e] = list[n]
				there[keyOf(e)] = slices.Delete(slices.Clone(list), n, n+1)
			}
		}
	}
	var out []entryPair
	for i := range kept.Entries {
		out = append(out, entryPair{&kept.Entries[i], partner[&kept.Entries[i]]})
	}
	for i := range now.Entries {
		if e := &now.Entries[i]; slices.Contains(there[keyOf(e)], e) {
			out = append(out, entryPair{nil, e})
		}
	}
	return out
}

// Continued returns a newer archive of the same database with the numbers of the kept one: an entry
// that both have keeps its number, so that what crossfade.item says of it holds, and others get
// numbers that the kept archive does not have. The same two archives give the same numbers.
func Continued(kept, now *archive.Archive) *archive.Archive {
	next := kept.LastID()
	ids := make(map[int]int, len(now.Entries))
	for _, p := range pairEntries(kept, now) {
		if p.kept != nil && p.now != nil {
			ids[p.now.ID] = p.kept.ID
		}
	}
	// Numbers of entries that are added to an archive, such as single settings of the
	// database, are counted from the highest: those of one archive stay clear of the other's.
	for _, e := range slices.SortedFunc(slices.Values(now.Entries), func(a, b archive.Entry) int { return cmp.Compare(a.ID, b.ID) }) {
		if _, ok := ids[e.ID]; !ok {
			next++
			ids[e.ID] = next
		}
	}
	out := *now
	out.Entries = slices.Clone(now.Entries)
	for i := range out.Entries {
		e := &out.Entries[i]
		e.ID = ids[e.ID]
		e.Dependencies = slices.Clone(e.Dependencies)
		for n, id := range e.Dependencies {
			if to, ok := ids[id]; ok {
				e.Dependencies[n] = to
			} else {
				next++ // of nothing in the archive
				ids[id] = next
				e.Dependencies[n] = next
			}
		}
	}
	return &out
}
