package roles

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

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
	name := func(role string) string { return cmp.Or(mapped[role], role) }
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
		out = lists.AddNew(out, c)
	}
	return out
}

// Align applies to the roles of the target that made selects, which a migration has made itself,
// what has changed since for the source's roles of the same names: attributes, limits, memberships,
// settings. there is the present state of the target. Passwords are not compared. What the target
// does not let us change is a finding, and is not tried again while refused contains it and the
// role of the session has no further rights.
func Align(ctx context.Context, target *pgx.Conn, source, there Roles, mapped map[string]string, made func(name string) bool, refused Refused, log zerolog.Logger) ([]finding.Finding, error) {
	m := &roleMaker{conn: target, mapped: mapped}
	changes := alignment(source, there, m.target, made)
	maps.DeleteFunc(refused, func(text, _ string) bool { // the source has taken it back, or the target has it now
		return !slices.ContainsFunc(changes, func(c change) bool { return c.text == text })
	})
	may := there.Rights(target.Config().User)
	for _, sql := range changes {
		if before, ok := refused[sql.text]; ok && before == may {
			continue
		}
		done, err := m.try(ctx, sql.role, sql.text, sql.what)
		if err != nil {
			return m.report.Findings, fmt.Errorf("align roles: %w", err)
		}
		if !done {
			refused[sql.text] = may
			continue
		}
		delete(refused, sql.text)
		log.Info().Str("role", sql.role).Str("what", sql.what).Msg("a role of the target follows the source's")
	}
	return m.report.Findings, nil
}

// Refused are statements about roles that the target has refused, with what the role of the
// session might do then.
type Refused map[string]string

// Rights is what decides what a role may do to others, in one text.
func (r Roles) Rights(name string) string {
	role, _ := r.find(name)
	text := fmt.Sprint(role.Powers)
	for _, m := range r.Memberships {
		if m.Member == name {
			text += fmt.Sprintf(" %q %t", m.Role, m.Admin)
		}
	}
	return text
}

// change is one statement about a role.
type change struct{ role, what, text string }

// alignment lists what makes the roles of the target that made tells as the source's are.
func alignment(source, target Roles, translate func(string) string, made func(string) bool) []change {
	var out []change
	for _, r := range source.Roles {
		t, ok := target.find(r.Name)
		if !ok || translate(r.Name) != r.Name || !made(r.Name) {
			continue
		}
		alter := func(what string) {
			out = append(out, change{r.Name, what, "ALTER ROLE " + pg.QuoteIdent(r.Name) + " " + what})
		}
		if r.Login != t.Login {
			alter(either(r.Login, "LOGIN", "NOLOGIN"))
		}
		if r.Inherit != t.Inherit {
			alter(either(r.Inherit, "INHERIT", "NOINHERIT"))
		}
		if r.ConnLimit != t.ConnLimit {
			alter("CONNECTION LIMIT " + strconv.Itoa(r.ConnLimit))
		}
		if r.ValidUntil != t.ValidUntil {
			alter("VALID UNTIL " + pg.QuoteLiteral(either(r.ValidUntil == "", "infinity", r.ValidUntil)))
		}
		for _, p := range powers {
			switch here, there := slices.Contains(r.Powers, p.attribute), slices.Contains(t.Powers, p.attribute); {
			case !here && there:
				alter("NO" + p.attribute)
			case here && !there && p.attribute != "SUPERUSER" && p.attribute != "REPLICATION" && p.attribute != "BYPASSRLS":
				alter(p.attribute) // the others were asked for when it was made
			}
		}
	}
	out = append(out, alignMemberships(source, target, translate, made)...)
	return append(out, alignSettings(source, target, translate, made)...)
}

func either[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// alignMemberships gives and takes memberships of members that made tells, by their names.
func alignMemberships(source, target Roles, translate func(string) string, made func(string) bool) []change {
	same := func(list []Membership, role, member string, tr func(string) string) int {
		return slices.IndexFunc(list, func(m Membership) bool { return tr(m.Role) == role && tr(m.Member) == member })
	}
	keep := func(name string) string { return name }
	var out []change
	for _, m := range source.Memberships {
		role, member := translate(m.Role), translate(m.Member)
		if member != m.Member || !made(member) || !slices.ContainsFunc(target.Roles, func(r Role) bool { return r.Name == role }) && !predefined(role) {
			continue
		}
		at := same(target.Memberships, role, member, keep)
		if at >= 0 && !m.Admin && target.Memberships[at].Admin {
			out = append(out, change{member, "admin option of " + role, "REVOKE ADMIN OPTION FOR " + pg.QuoteIdent(role) + " FROM " + pg.QuoteIdent(member)})
		}
		if at < 0 || m.Admin && !target.Memberships[at].Admin {
			out = append(out, change{member, "membership in " + role, "GRANT " + pg.QuoteIdent(role) + " TO " + pg.QuoteIdent(member) + either(m.Admin, " WITH ADMIN OPTION", "")})
		}
	}
	for _, m := range target.Memberships {
		if made(m.Member) && same(source.Memberships, m.Role, m.Member, translate) < 0 {
			out = append(out, change{m.Member, "membership in " + m.Role, "REVOKE " + pg.QuoteIdent(m.Role) + " FROM " + pg.QuoteIdent(m.Member)})
		}
	}
	return out
}

func predefined(role string) bool { return len(role) > 3 && role[:3] == "pg_" }

// alignSettings sets and resets what ALTER ROLE … SET has given for all databases.
func alignSettings(source, target Roles, translate func(string) string, made func(string) bool) []change {
	var out []change
	for _, s := range source.Settings {
		if !made(s.Role) || translate(s.Role) != s.Role || slices.Contains(target.Settings, s) {
			continue
		}
		value := s.Value
		if s.Name == "role" {
			value = translate(value)
		}
		if slices.Contains(target.Settings, Setting{Role: s.Role, Name: s.Name, Value: value}) {
			continue
		}
		out = append(out, change{s.Role, "setting " + s.Name, "ALTER ROLE " + pg.QuoteIdent(s.Role) + " SET " + pg.QuoteIdent(s.Name) + " TO " + SettingValue(s.Name, value)})
	}
	for _, s := range target.Settings {
		if made(s.Role) && !slices.ContainsFunc(source.Settings, func(x Setting) bool { return x.Role == s.Role && x.Name == s.Name }) {
			out = append(out, change{s.Role, "setting " + s.Name, "ALTER ROLE " + pg.QuoteIdent(s.Role) + " RESET " + pg.QuoteIdent(s.Name)})
		}
	}
	return out
}
