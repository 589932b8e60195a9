package loginrole

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Check finds roles that could no longer log in after the switch, or would be another role.
func Check(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	return Compare(ctx, p.Source, p.Target, p.Options.Logins, p.Options.PlatformRole)
}

// Compare compares the roles that log in to the source with those that they become on the target,
// and names those that cannot log in there, would have other rights, or would be another role to
// the catalog. platform holds the roles of hosting platforms. Roles that have yet to be made count
// as made.
func Compare(ctx context.Context, source, target *pgx.Conn, l inquiry.Logins, platform func(string) bool) ([]answer.Finding, error) {
	here, err := readLogins(ctx, source)
	if err != nil {
		return nil, err
	}
	there, err := readLogins(ctx, target)
	if err != nil {
		return nil, err
	}
	mover, err := inquiry.Value[string](ctx, source, "role of the session", `SELECT session_user::text`)
	if err != nil {
		return nil, err
	}
	self, err := inquiry.One[struct {
		May, Bypass bool
		Database    string
		Version     int
	}](ctx, target, "rights of the role", `SELECT rolsuper OR rolcreaterole, rolsuper OR rolcreaterole AND rolbypassrls AND current_setting('server_version_num')::int >= 160000,
		current_database()::text, current_setting('server_version_num')::int FROM pg_roles WHERE rolname = current_user`)
	if err != nil {
		return nil, err
	}
	guarded, err := inquiry.Value[int](ctx, source, "tables with row security", `SELECT count(*)`+inquiry.FromUserRelations+`AND c.relkind IN ('r', 'p') AND c.relrowsecurity`)
	if err != nil {
		return nil, err
	}
	c := &comparison{l: l, here: here, there: there, mayMake: self.May, mayBypass: self.Bypass, version: self.Version, database: self.Database, guarded: guarded, platform: platform, mover: mover}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(here)) {
		r := here[name]
		if !r.Login || !r.Connect || platform != nil && platform(name) {
			continue
		}
		if c.compare(r) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 && !c.mayMake {
		c.add(answer.Finding{Code: "no_createrole", Severity: answer.Blocker, Object: l.TargetRole,
			Detail: "may not make roles on the target, which lacks roles of the source: " + strings.Join(missing, ", "),
			Remedy: "ALTER ROLE " + pg.QuoteIdent(l.TargetRole) + " CREATEROLE by a role that may, or have them be other roles of the target with --map-role",
			On:     answer.Target, SQL: "ALTER ROLE " + pg.QuoteIdent(l.TargetRole) + " CREATEROLE"})
	}
	if others := c.renamed(); len(others) > 0 {
		found, err := identityFindings(ctx, source, others)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			c.judge(f)
		}
	}
	return c.found, nil
}

// comparison is one run of Compare.
type comparison struct {
	l           inquiry.Logins
	here, there map[string]login
	mayMake     bool
	mayBypass   bool   // give BYPASSRLS
	version     int    // of the target's server
	database    string // of the target
	guarded     int    // tables with row security
	platform    func(string) bool
	mover       string // the role of --source, which is given REPLICATION for the migration
	found       []answer.Finding
}

func (c *comparison) add(f answer.Finding) { c.found = append(c.found, f) }

// judge adds a finding about other rights; the operator's word makes a warning of a blocker.
func (c *comparison) judge(f answer.Finding) {
	if f.Severity == answer.Blocker && slices.Contains(c.l.Accepted, f.Object) {
		f.Severity = answer.Warning
		f.Detail += " (accepted with --accept-rights)"
	}
	c.add(f)
}

// becomes returns the role of the target that a role of the source is there.
func (c *comparison) becomes(name string) string {
	return cmp.Or(c.l.Mapped[name], name)
}

// compare compares one role, and reports whether the target lacks it.
func (c *comparison) compare(r login) (missing bool) {
	to, mapped := c.becomes(r.Name), c.l.Mapped[r.Name] != ""
	lets := c.l.LetsIn != nil && c.l.LetsIn(r.Name)
	t, there := c.there[to]
	switch {
	case to == inquiry.NoLogin:
		return false
	case r.Super && !lets:
		return false // no client comes through the proxy as that role
	case to == c.l.TargetRole && !mapped:
		c.add(answer.Finding{Code: "login_is_target_role", Severity: answer.Blocker, Object: r.Name,
			Detail: "is the role of --target as well, which can read and drop what Crossfade keeps on the target, and has more rights than the application's role on the source",
			Remedy: "give --target another role that may make roles; or accept it with " + mapRole(r.Name, to) + " " + acceptRights(r.Name)})
		return false
	case !there && mapped:
		c.add(answer.Finding{Code: "login_missing", Severity: answer.Blocker, Object: r.Name,
			Detail: fmt.Sprintf("is to be role %s on the target, which has no such role", to),
			Remedy: "CREATE ROLE " + pg.QuoteIdent(to) + " LOGIN on the target, and its password into the users file (--users); or name another role with --map-role",
			On:     answer.Target, SQL: "CREATE ROLE " + pg.QuoteIdent(to) + " LOGIN"})
		return false
	case !there && r.Super:
		c.judge(c.superuser(r))
		return false
	case !there:
		if r.BypassRLS && !c.mayBypass && c.guarded > 0 && lets {
			c.judge(c.bypass(r))
		}
		return true
	}
	if lets && !t.Login {
		c.add(answer.Finding{Code: "login_locked", Severity: answer.Blocker, Object: r.Name,
			Detail: fmt.Sprintf("logs in to the source, and role %s of the target may not log in", to),
			Remedy: "ALTER ROLE " + pg.QuoteIdent(to) + " LOGIN on the target, or " + mapRole(r.Name, inquiry.NoLogin) + " if it is not to log in there",
			On:     answer.Target, SQL: "ALTER ROLE " + pg.QuoteIdent(to) + " LOGIN"})
	} else if lets && (c.l.Enters == nil || !c.l.Enters(r.Name)) {
		again := "; or DROP ROLE " + pg.QuoteIdent(to) + " on the target, so that crossfade run makes it"
		if t.Super {
			again = "" // such as the one that a server begins with
		}
		c.add(answer.Finding{Code: "login_unknown", Severity: answer.Blocker, Object: r.Name,
			Detail: fmt.Sprintf("logs in to the source, and the password of role %s of the target is not known: after the switch it would be refused", to),
			Remedy: "write it into the users file (--users), after ALTER ROLE " + pg.QuoteIdent(to) + " PASSWORD if nobody knows it; or " + mapRole(r.Name, inquiry.NoLogin) + " if it is not to log in there" + again})
	}
	if f, full := c.full(r, t); full && lets {
		c.add(f)
	}
	if to == c.l.TargetRole {
		c.add(answer.Finding{Code: "login_is_target_role", Severity: answer.Warning, Object: r.Name,
			Detail: "is the role of --target by --map-role: the application can read and drop what Crossfade keeps on the target",
			Remedy: c.ofItsOwn(r, t)})
	}
	c.rights(r, t, lets)
	return false
}

// full names a role that the target had no session for, unless another limit than the source's
// refuses anyhow, or the source lets it have none either.
func (c *comparison) full(r, t login) (f answer.Finding, full bool) {
	if c.l.Full == nil || r.Limit == 0 || r.Limit != t.Limit && !t.Super && !slices.Contains(c.l.Accepted, r.Name) {
		return f, false
	}
	said := c.l.Full(r.Name)
	remedy := "end sessions on the target, or raise its max_connections"
	switch {
	case said == "":
		return f, false
	case strings.Contains(said, "for database"):
		remedy = "ALTER DATABASE " + pg.QuoteIdent(c.database) + " CONNECTION LIMIT -1 on the target, or end sessions there"
	case strings.Contains(said, "for role") && t.Limit == 0:
		remedy = fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d on the target", pg.QuoteIdent(t.Name), r.Limit)
	case strings.Contains(said, "for role"):
		remedy = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = " + pg.QuoteLiteral(t.Name) + " on the target, which ends the sessions that the role has there beside the proxy"
	}
	return answer.Finding{Code: "login_full", Severity: answer.Blocker, Object: r.Name,
		Detail: fmt.Sprintf("logs in to the source, and the target had no session left for role %s: %s", t.Name, said), Remedy: remedy}, true
}

// renamed are the roles that are another one on the target.
func (c *comparison) renamed() map[string]string {
	out := map[string]string{}
	for from, to := range c.l.Mapped {
		if r, ok := c.here[from]; ok && r.Login && r.Connect && to != inquiry.NoLogin && to != from {
			out[from] = to
		}
	}
	return out
}

// login is one role of a side: its rights, whatever the database contains.
type login struct {
	Name                                                                string
	Login, Inherit, Super, BypassRLS, Replication, CreateRole, CreateDB bool
	Connect                                                             bool // to the database of the session
	Limit                                                               int
	ValidUntil                                                          string
	Member                                                              []string // of these roles, through others too
	Uses                                                                []string // the rights of these it has without SET ROLE
	Settings                                                            []string // of ALTER ROLE … SET, name=hash
}

const logins = `SELECT r.rolname::text, r.rolcanlogin, r.rolinherit, r.rolsuper, r.rolbypassrls, r.rolreplication, r.rolcreaterole, r.rolcreatedb,
		has_database_privilege(r.oid, current_database(), 'CONNECT'), r.rolconnlimit,
		CASE WHEN r.rolvaliduntil IS NULL OR r.rolvaliduntil = 'infinity' THEN '' ELSE (r.rolvaliduntil AT TIME ZONE 'UTC')::text END,
		ARRAY(SELECT g.rolname::text FROM pg_roles g WHERE g.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, g.oid, 'MEMBER') ORDER BY 1),
		ARRAY(SELECT g.rolname::text FROM pg_roles g WHERE g.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, g.oid, 'USAGE') ORDER BY 1),
		ARRAY(SELECT split_part(s, '=', 1) || '=' || md5(substr(s, strpos(s, '=') + 1)) FROM pg_db_role_setting d, unnest(d.setconfig) s
			WHERE d.setrole = r.oid AND d.setdatabase = 0 ORDER BY 1)
	FROM pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY 1`

func readLogins(ctx context.Context, conn *pgx.Conn) (map[string]login, error) {
	all, err := inquiry.List[login](ctx, conn, "roles", logins)
	return lists.By(all, func(x login) string { return x.Name }), err
}
