package roles

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/base/pg"
	"crossfade/schema/finding"
)

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
	has := map[string]Role{}
	for _, r := range target.Roles {
		has[r.Name] = r
	}
	var out []change
	for _, r := range source.Roles {
		t, ok := has[r.Name]
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
