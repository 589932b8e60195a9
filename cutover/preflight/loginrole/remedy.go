package loginrole

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// inherited follows a membership that is reported for its rights.
const inherited = ", whose rights it has without SET ROLE"

// ownName says how a role keeps its name.
const ownName = "leave it its own name, without --map-role and without a target role in the users file"

// plainWord is what a shell takes literally.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// word writes a name as a word of a shell's command.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func mapRole(from, to string) string { return "--map-role " + word(from+"="+to) }

func acceptRights(role string) string { return "--accept-rights " + word(role) }

func (c *comparison) superuser(r login) answer.Finding {
	return answer.Finding{Code: "login_superuser", Severity: answer.Blocker, Object: r.Name,
		Detail: "is a superuser on the source and cannot be one on the target: after the switch it would have fewer rights, or be refused",
		Remedy: "let it be none with " + mapRole(r.Name, inquiry.NoLogin) + ", or another role of the target with " + mapRole(r.Name, "ROLE") + " " + acceptRights(r.Name)}
}

// bypass names a role that the target lacks, and that could not be given its right there.
func (c *comparison) bypass(r login) answer.Finding {
	sql := "CREATE ROLE " + pg.QuoteIdent(c.becomes(r.Name)) + " LOGIN BYPASSRLS"
	return answer.Finding{Code: "login_loses", Severity: answer.Blocker, Object: r.Name,
		Detail: fmt.Sprintf("has BYPASSRLS on the source, and --target may not give it on the target: policies of %d tables would hide rows from it", c.guarded),
		Remedy: sql + " on the target, by a role that may, and its password into the users file (--users); or let it be another role with --map-role; or accept it with " + acceptRights(r.Name),
		On:     answer.Target, SQL: sql}
}

// given are the statements that give a role of the target what it lacks there.
func (c *comparison) given(r, t login, losses []string) string {
	role, attributes := pg.QuoteIdent(t.Name), ""
	var grants []string
	for _, l := range losses {
		group, member := strings.CutPrefix(l, "membership in ")
		if !member {
			attributes += " " + l
			continue
		}
		group, lacksUse := strings.CutSuffix(group, inherited)
		uses := lacksUse || slices.ContainsFunc(r.Uses, func(n string) bool { return c.becomes(n) == group })
		if uses && !t.Inherit && c.version < 160000 && !strings.HasSuffix(attributes, " INHERIT") {
			attributes += " INHERIT"
		}
		if lacksUse && c.version < 160000 {
			continue
		}
		if _, there := c.there[group]; !there && !strings.HasPrefix(group, "pg_") {
			grants = append(grants, "CREATE ROLE "+pg.QuoteIdent(group))
		}
		grant := "GRANT " + pg.QuoteIdent(group) + " TO " + role
		if uses && c.version >= 160000 {
			grant += " WITH INHERIT TRUE"
		}
		grants = append(grants, grant)
	}
	if attributes != "" {
		grants = append([]string{"ALTER ROLE " + role + attributes}, grants...)
	}
	return strings.Join(grants, ";\n")
}

// without says of a finding how a role gets rid of what it has on the target alone.
func (c *comparison) without(f answer.Finding, r, t login) answer.Finding {
	accept := "; or accept it with " + acceptRights(r.Name)
	if t.Name != r.Name || t.Name == c.l.TargetRole {
		f.Remedy = c.ofItsOwn(r, t) + accept
		return f
	}
	const suffix = "_before"
	kept := strings.ToValidUTF8(t.Name[:min(len(t.Name), inquiry.MaxName-len(suffix))], "") + suffix
	f.On, f.SQL = answer.Target, "ALTER ROLE "+pg.QuoteIdent(t.Name)+" RENAME TO "+pg.QuoteIdent(kept)
	f.Remedy = f.SQL + " on the target (or drop it, if nothing needs it), so that crossfade run makes one like the source's" + accept
	return f
}

// ofItsOwn says how a role of the source is one of its own on the target.
func (c *comparison) ofItsOwn(r, t login) string {
	if t.Name == r.Name {
		return "give --target another role that may make roles, and leave --map-role out for " + word(r.Name)
	}
	return ownName
}

// settingsQuery prints the statements that set for a role of the target what is set for one of the
// source. Only the caller sees the values, which may be secrets.
func settingsQuery(from, to string, names []string) string {
	return fmt.Sprintf("SELECT format('ALTER ROLE %%I SET %%I TO %%s;', %s, name, CASE WHEN lower(name) IN ('local_preload_libraries', 'search_path', 'session_preload_libraries', 'temp_tablespaces') "+
		"THEN CASE value WHEN '\"\"' THEN quote_literal('') ELSE value END ELSE quote_literal(value) END) FROM (SELECT split_part(s, '=', 1) AS name, substr(s, strpos(s, '=') + 1) AS value FROM pg_db_role_setting d, unnest(d.setconfig) s "+
		"WHERE d.setdatabase = 0 AND d.setrole = %s::regrole) c WHERE name IN (%s)",
		pg.QuoteLiteral(to), pg.QuoteLiteral(pg.QuoteIdent(from)), strings.Join(lists.Map(names, pg.QuoteLiteral), ", "))
}
