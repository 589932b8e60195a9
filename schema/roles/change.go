package roles

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/finding"
)

// kindRole is the kind of a Change of a role.
const kindRole = "ROLE"

// WithoutValues returns the roles with digests in the place of the values of
// settings, which may be secrets.
func (r Roles) WithoutValues() Roles {
	r.Settings = slices.Clone(r.Settings)
	for i, s := range r.Settings {
		sum := sha256.Sum256([]byte(s.Name + "=" + s.Value))
		r.Settings[i].Value = hex.EncodeToString(sum[:])
	}
	return r
}

func (r Roles) find(name string) (Role, bool) {
	return lists.Find(r.Roles, func(x Role) bool { return x.Name == name })
}

func (r Roles) membership(role, member string) (Membership, bool) {
	return lists.Find(r.Memberships, func(m Membership) bool { return m.Role == role && m.Member == member })
}

func (r Roles) setting(role, name string) string {
	s, _ := lists.Find(r.Settings, func(s Setting) bool { return s.Role == role && s.Name == name })
	return s.Value
}

// Changes lists how the source's roles differ from what they were when kept was read, unless the
// roles of their names on the target have changed too. For roles that another role replaces on the
// target only memberships count: that role has rights of its own, and settings are copied to it.
// Passwords, LOGIN and VALID UNTIL take effect at the proxy. Roles of the server that no role of
// this database can become do not count. All are WithoutValues.
func Changes(kept, now, target Roles, mapped map[string]string) []finding.Change {
	name := func(role string) string {
		if to := mapped[role]; to != "" {
			return to
		}
		return role
	}
	var out []finding.Change
	counts := now.reachable(kept)
	for _, r := range now.Roles {
		old, known := kept.find(r.Name)
		t, there := target.find(name(r.Name))
		if !known || !there || !counts[r.Name] || name(r.Name) != r.Name {
			continue
		}
		alter := "ALTER ROLE " + pg.QuoteIdent(r.Name) + " "
		tell := func(property, source, target, sql string) {
			out = append(out, finding.Change{Kind: kindRole, Name: r.Name, Property: property, Source: source, Target: target, SQL: sql})
		}
		for _, p := range powers {
			has := func(x Role) bool { return slices.Contains(x.Powers, p.attribute) }
			switch {
			case has(r) == has(old) || has(r) == has(t):
			case has(r):
				tell("attribute", p.attribute, "NO"+p.attribute, alter+p.attribute+";")
			default:
				tell("attribute", "NO"+p.attribute, p.attribute, alter+"NO"+p.attribute+";")
			}
		}
		inherit := map[bool]string{true: "INHERIT", false: "NOINHERIT"}
		if r.Inherit != old.Inherit && r.Inherit != t.Inherit {
			tell("attribute", inherit[r.Inherit], inherit[t.Inherit], alter+inherit[r.Inherit]+";")
		}
		if r.ConnLimit != old.ConnLimit && r.ConnLimit != t.ConnLimit {
			tell("CONNECTION LIMIT", strconv.Itoa(r.ConnLimit), strconv.Itoa(t.ConnLimit), alter+"CONNECTION LIMIT "+strconv.Itoa(r.ConnLimit)+";")
		}
		for _, s := range slices.Concat(settingsOf(now.Settings, []string{r.Name}), settingsOf(kept.Settings, []string{r.Name})) {
			is := now.setting(r.Name, s.Name)
			switch {
			case is == kept.setting(r.Name, s.Name) || is == target.setting(r.Name, s.Name):
			case is == "":
				tell("setting "+s.Name, "", "set", alter+"RESET "+pg.QuoteIdent(s.Name)+";")
			default: // the value may be a secret
				tell("setting "+s.Name, "another value", "not that value", "")
			}
		}
	}
	return append(slices.CompactFunc(out, func(a, b finding.Change) bool { return a == b }), membershipChanges(kept, now, target, counts, name)...)
}

// reachable are the roles that are Here, and all that these are or were members of, in as many
// steps as it takes: someone in this database has, had or can take their rights.
func (r Roles) reachable(kept Roles) map[string]bool {
	in := map[string]bool{}
	for _, role := range slices.Concat(r.Roles, kept.Roles) {
		if role.Here {
			in[role.Name] = true
		}
	}
	edges := slices.Concat(r.Memberships, kept.Memberships)
	for grown := true; grown; {
		grown = false
		for _, m := range edges {
			if in[m.Member] && !in[m.Role] {
				in[m.Role], grown = true, true
			}
		}
	}
	return in
}

// membershipChanges lists what became of the memberships of the members that count.
func membershipChanges(kept, now, target Roles, counts map[string]bool, name func(string) string) []finding.Change {
	var out []finding.Change
	for _, m := range slices.Concat(now.Memberships, kept.Memberships) {
		role, member := name(m.Role), name(m.Member)
		_, one := target.find(role)
		_, two := target.find(member)
		is, has := now.membership(m.Role, m.Member)
		was, had := kept.membership(m.Role, m.Member)
		t, there := target.membership(role, member)
		if !one || !two || !counts[m.Member] || role == member || has == had && is == was || has == there && is.Admin == t.Admin {
			continue
		}
		c := finding.Change{Kind: kindRole, Name: m.Member, Property: "membership in " + m.Role}
		switch {
		case !has:
			c.Target, c.SQL = "member", "REVOKE "+pg.QuoteIdent(role)+" FROM "+pg.QuoteIdent(member)+";"
		case there && !is.Admin:
			c.Source, c.Target, c.SQL = "without ADMIN OPTION", "with ADMIN OPTION", "REVOKE ADMIN OPTION FOR "+pg.QuoteIdent(role)+" FROM "+pg.QuoteIdent(member)+";"
		default:
			c.Source, c.SQL = "member", "GRANT "+pg.QuoteIdent(role)+" TO "+pg.QuoteIdent(member)
			if is.Admin {
				c.Source, c.SQL = "member with ADMIN OPTION", c.SQL+" WITH ADMIN OPTION"
			}
			c.SQL += ";"
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}
