package schema

import (
	"maps"
	"slices"

	"crossfade/internal/pg"
)

// platformRoles belong to hosting platforms and exist nowhere else. What is
// granted to them, or set for them, means nothing on the target.
var platformRoles = []string{
	"rdsadmin", "rds_superuser", "rds_replication", "rds_iam", "rds_password", "rds_ad", "rdsrepladmin", "rds_reserved",
	"cloudsqladmin", "cloudsqlsuperuser", "cloudsqlreplica", "cloudsqlagent", "alloydbadmin", "alloydbsuperuser",
	"azuresu", "azure_superuser", "azure_pg_admin", "supabase_admin", "supabase_storage_admin", "supabase_auth_admin",
	"cloud_admin", "zenith_admin", "neon_service",
}

// PlatformRole reports whether a role is a hosting platform's own.
func PlatformRole(name string) bool { return slices.Contains(platformRoles, name) }

// mentionsRoles reports whether the definitions of such entries name roles.
func mentionsRoles(kind string) bool {
	return kind == "ACL" || kind == "DEFAULT ACL" || kind == "POLICY" || kind == "USER MAPPING" || kind == kindProperties
}

// Roles lists the source's roles that privileges, policies, user mappings and
// properties of the database name, sorted. PUBLIC and the platform's own roles are not in it.
func (p *Plan) Roles() []string {
	names := map[string]bool{}
	for _, part := range []Part{PreData, AfterCopy, Decision, Last} {
		for _, e := range p.Entries(part) {
			if !mentionsRoles(e.Kind) {
				continue
			}
			for _, s := range split(e.Definition) {
				for _, i := range roleTokens(s) {
					if name, ok := s.identifier(i); ok && !slices.Contains(platformRoles, name) {
						names[name] = true
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// mapRoles puts the target's role names in the place of the source's. Changes
// of the session's authorization, and statements about roles of the source's
// platform that nothing is mapped to, are left out; the latter are returned.
func mapRoles(sql string, roles map[string]string) (mapped string, left []string) {
	var edits []edit
	for _, s := range split(sql) {
		if s.words(0, "set", "session", "authorization") || s.words(0, "reset", "session", "authorization") {
			edits = append(edits, edit{start: s.start, end: s.end})
			continue
		}
		var changes []edit
		foreign := false
		for _, i := range roleTokens(s) {
			name, ok := s.identifier(i)
			if !ok {
				continue
			}
			if to, ok := roles[name]; ok {
				changes = append(changes, edit{start: s.tokens[i].start, end: s.tokens[i].end, text: pg.QuoteIdent(to)})
			} else if slices.Contains(platformRoles, name) {
				foreign = true
			}
		}
		if foreign {
			edits = append(edits, edit{start: s.start, end: s.end})
			left = append(left, s.text())
			continue
		}
		edits = append(edits, changes...)
	}
	return apply(sql, edits), left
}

// roleTokens finds the tokens of a statement that are names of roles, in order.
func roleTokens(s statement) []int {
	switch {
	case s.word(0, "grant") || s.word(0, "revoke"):
		return grantees(s, 0)
	case s.words(0, "alter", "default", "privileges"):
		var out []int
		i := 3
		if s.words(i, "for", "role") || s.words(i, "for", "user") {
			out = roleList(s, i+2)
		}
		if at := s.find(i, "grant", "revoke"); at >= 0 {
			out = append(out, grantees(s, at)...)
		}
		return out
	case s.words(0, "alter", "role"):
		return roleList(s, 2)
	case s.words(0, "create", "policy"):
		if at := s.find(2, "to", "using", "with"); at >= 0 && s.word(at, "to") {
			return roleList(s, at+1)
		}
	case s.words(0, "create", "user", "mapping"):
		if at := s.find(3, "for"); at >= 0 {
			return roleList(s, at+1)
		}
	}
	return nil
}

// grantees finds the roles of the GRANT or REVOKE that begins at token i. TO
// and FROM are reserved words, so that no name reads as one without quotes.
func grantees(s statement, i int) []int {
	if at := s.find(i, "to", "from"); at >= 0 {
		return roleList(s, at+1)
	}
	return nil
}

// roleList finds the names of a list that is separated by commas, without PUBLIC.
func roleList(s statement, i int) []int {
	var out []int
	for ; i < len(s.tokens); i += 2 {
		if _, ok := s.identifier(i); !ok {
			break
		}
		if !s.word(i, "public") {
			out = append(out, i)
		}
		if !s.punct(i+1, ',') {
			break
		}
	}
	return out
}

// revokesFromOwner reports whether privileges take from the owner of a table
// or sequence what copying and applying need.
func revokesFromOwner(e *Entry) bool {
	for _, s := range split(e.Definition) {
		if !s.word(0, "revoke") || s.find(1, "table", "sequence") < 0 {
			continue
		}
		for _, i := range roleTokens(s) {
			if name, ok := s.identifier(i); ok && name == e.Owner {
				return true
			}
		}
	}
	return false
}
