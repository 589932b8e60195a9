package plan

import (
	"maps"
	"slices"

	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/roles"
)

// MentionsRoles reports whether the definitions of such entries name roles.
func MentionsRoles(kind string) bool {
	return kind == "ACL" || kind == "DEFAULT ACL" || kind == "POLICY" || kind == "USER MAPPING" || kind == KindProperties
}

// Roles lists the source's roles that privileges, policies, user mappings and
// properties of the database name, sorted. PUBLIC and the platform's own roles are not in it.
func (p *Plan) Roles() []string {
	names := map[string]bool{}
	for _, part := range []Part{PreData, AfterCopy, Decision, Last} {
		for _, e := range p.Entries(part) {
			if !MentionsRoles(e.Kind) {
				continue
			}
			for _, s := range sqltext.Split(e.Definition) {
				for _, i := range roles.Tokens(s) {
					if name, ok := s.Identifier(i); ok && !slices.Contains(roles.PlatformRoles, name) {
						names[name] = true
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// revokesFromOwner reports whether privileges take from the owner of a table
// or sequence what copying and applying need.
func revokesFromOwner(e *archive.Entry) bool {
	for _, s := range sqltext.Split(e.Definition) {
		if !s.Word(0, "revoke") || s.Find(1, "table", "sequence") < 0 {
			continue
		}
		for _, i := range roles.Tokens(s) {
			if name, ok := s.Identifier(i); ok && name == e.Owner {
				return true
			}
		}
	}
	return false
}
