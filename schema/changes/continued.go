package changes

import (
	"cmp"
	"slices"

	"crossfade/schema/archive"
)

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
