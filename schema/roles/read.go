package roles

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Role is a role of a cluster as everybody may read it: without its password.
type Role struct {
	Name       string
	Login      bool
	Inherit    bool
	Powers     []string // SUPERUSER, CREATEDB, CREATEROLE, REPLICATION, BYPASSRLS: those that it has
	ConnLimit  int      // -1 for none
	ValidUntil string   // "" for ever
	Comment    string
	Here       bool // it may log in to this database, or owns, may use or is named in something of it
}

// Membership is one GRANT of a role to another.
type Membership struct {
	Role, Member       string
	Admin              bool
	Inherit, Set       bool // before 16: Inherit is the member's own, Set is true
	GrantedWithOptions bool // the two were read, from 16 on
}

// Setting is what ALTER ROLE … SET has given a role in all databases.
type Setting struct {
	Role, Name string
	Value      string // may be a secret, and must not be shown
}

// Roles is what the roles of a cluster are, without the server's and the platform's own.
type Roles struct {
	Roles       []Role
	Memberships []Membership
	Settings    []Setting
}

// powers are the attributes of a role that not everybody may give, with their columns.
var powers = []struct{ attribute, column string }{
	{"SUPERUSER", "rolsuper"}, {"CREATEDB", "rolcreatedb"}, {"CREATEROLE", "rolcreaterole"}, {"REPLICATION", "rolreplication"}, {"BYPASSRLS", "rolbypassrls"},
}

// involved are the roles that are connected with the database: those that may log in to it, except
// superusers; those that own something in it, or are named by a privilege or a policy; and the
// roles that these are members of. Roles of other databases of the server are not among them.
const involved = `WITH RECURSIVE involved (oid) AS (
		SELECT r.oid FROM pg_catalog.pg_roles r
		WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT')
		UNION
		SELECT s.refobjid FROM pg_catalog.pg_shdepend s
		WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
			AND (s.dbid = d.oid OR s.dbid = 0 AND s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND s.objid = d.oid)
		UNION
		SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN involved i ON m.member = i.oid)
	SELECT r.rolname::text FROM involved i JOIN pg_catalog.pg_roles r USING (oid)`

// ReadInvolved reads the roles that have to do with the database that conn is connected to.
func ReadInvolved(ctx context.Context, conn *pgx.Conn) (Roles, error) {
	all, err := Read(ctx, conn)
	if err != nil {
		return all, err
	}
	var database uint32
	if err := conn.QueryRow(ctx, `SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()`).Scan(&database); err != nil {
		return Roles{}, fmt.Errorf("read roles of the database: %w", err)
	}
	names, err := pg.Rows(ctx, conn, pgx.RowTo[string], strings.ReplaceAll(involved, "d.oid", fmt.Sprint(database)))
	if err != nil {
		return Roles{}, fmt.Errorf("read roles of the database: %w", err)
	}
	wanted := lists.Set(names)
	all.Roles = slices.DeleteFunc(all.Roles, func(r Role) bool { return !wanted[r.Name] })
	all.Memberships = slices.DeleteFunc(all.Memberships, func(m Membership) bool { return !wanted[m.Member] })
	all.Settings = slices.DeleteFunc(all.Settings, func(s Setting) bool { return !wanted[s.Role] })
	return all, nil
}

// Read reads the roles of the cluster that conn is connected to.
func Read(ctx context.Context, conn *pgx.Conn) (Roles, error) {
	var out Roles
	columns := make([]string, len(powers))
	for i, p := range powers {
		columns[i] = "r." + p.column
	}
	rows, _ := conn.Query(ctx, `SELECT r.rolname::text, r.rolcanlogin, r.rolinherit, r.rolconnlimit, coalesce(r.rolvaliduntil::text, ''),
		coalesce(pg_catalog.shobj_description(r.oid, 'pg_authid'), ''), ARRAY[`+strings.Join(columns, ", ")+`],
		r.rolcanlogin AND pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT') OR EXISTS (SELECT FROM pg_catalog.pg_shdepend u
			WHERE u.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND u.refobjid = r.oid
				AND (u.dbid = d.oid OR u.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND u.objid = d.oid))
		FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
		WHERE r.rolname !~ '^pg_' AND r.rolname <> ALL (coalesce($1::pg_catalog.text[], '{}')) ORDER BY 1`, PlatformRoles)
	var err error
	out.Roles, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Role, error) {
		var r Role
		var has []bool
		err := row.Scan(&r.Name, &r.Login, &r.Inherit, &r.ConnLimit, &r.ValidUntil, &r.Comment, &has, &r.Here)
		for i, p := range powers {
			if err == nil && has[i] {
				r.Powers = append(r.Powers, p.attribute)
			}
		}
		return r, err
	})
	if err != nil {
		return out, fmt.Errorf("read roles: %w", err)
	}
	if out.Memberships, err = readMemberships(ctx, conn); err != nil {
		return out, err
	}
	out.Settings, err = readRoleSettings(ctx, conn)
	return out, err
}

func readMemberships(ctx context.Context, conn *pgx.Conn) ([]Membership, error) {
	options := `false, true, false`
	if pg.ServerVersion(conn) >= 160000 {
		options = `pg_catalog.bool_or(m.inherit_option), pg_catalog.bool_or(m.set_option), true`
	}
	list, err := pg.Rows(ctx, conn, pgx.RowToStructByPos[Membership], `SELECT g.rolname::text, u.rolname::text, pg_catalog.bool_or(m.admin_option), `+options+`
		FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles u ON u.oid = m.member
		WHERE u.rolname !~ '^pg_' AND u.rolname <> ALL (coalesce($1::pg_catalog.text[], '{}')) AND g.rolname <> ALL (coalesce($1::pg_catalog.text[], '{}'))
		GROUP BY 1, 2 ORDER BY 1, 2`, PlatformRoles)
	return list, pg.Wrap(err, "read memberships of roles")
}

func readRoleSettings(ctx context.Context, conn *pgx.Conn) ([]Setting, error) {
	list, err := pg.Rows(ctx, conn, pgx.RowToStructByPos[Setting], `SELECT r.rolname::text, pg_catalog.split_part(s, '=', 1), pg_catalog.substr(s, pg_catalog.strpos(s, '=') + 1)
		FROM pg_catalog.pg_db_role_setting d JOIN pg_catalog.pg_roles r ON r.oid = d.setrole, pg_catalog.unnest(d.setconfig) s
		WHERE d.setdatabase = 0 ORDER BY 1, 2`)
	return list, pg.Wrap(err, "read settings of roles")
}

func (r Roles) Names() []string {
	return lists.Map(r.Roles, func(x Role) string { return x.Name })
}

// settingsOf leaves the settings of these roles.
func settingsOf(all []Setting, roles []string) []Setting {
	return lists.Filter(all, func(s Setting) bool { return slices.Contains(roles, s.Role) })
}

// listSettings are the settings whose stored value is a list of quoted names
// (GUC_LIST_QUOTE, PostgreSQL's src/bin/pg_dump/dumputils.c, variable_is_guc_list_quote).
var listSettings = []string{"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories"}

// SettingValue writes the value of pg_db_role_setting as ALTER … SET takes it.
func SettingValue(name, value string) string {
	if !slices.Contains(listSettings, strings.ToLower(name)) {
		return pg.QuoteLiteral(value)
	}
	items := lists.Map(splitList(value), pg.QuoteLiteral)
	if len(items) == 0 {
		return "''"
	}
	return strings.Join(items, ", ")
}

// splitList splits a list of names at commas outside of double quotes.
func splitList(value string) []string {
	var out []string
	for i := 0; i < len(value); {
		for i < len(value) && (value[i] == ' ' || value[i] == ',' || value[i] == '\t') {
			i++
		}
		if i == len(value) {
			break
		}
		var b strings.Builder
		quoted := value[i] == '"'
		if quoted {
			for i++; i < len(value); i++ {
				if value[i] == '"' {
					if i+1 == len(value) || value[i+1] != '"' {
						i++
						break
					}
					i++
				}
				b.WriteByte(value[i])
			}
		} else {
			for ; i < len(value) && value[i] != ','; i++ {
				b.WriteByte(value[i])
			}
		}
		item := b.String()
		if !quoted {
			item = strings.TrimSpace(item)
		}
		out = append(out, item)
	}
	return out
}

// PlatformRoles belong to hosting platforms and exist nowhere else. What is
// granted to them, or set for them, means nothing on the target.
var PlatformRoles = []string{
	"rdsadmin", "rds_superuser", "rds_replication", "rds_iam", "rds_password", "rds_ad", "rdsrepladmin", "rds_reserved",
	"cloudsqladmin", "cloudsqlsuperuser", "cloudsqlreplica", "cloudsqlagent", "alloydbadmin", "alloydbsuperuser",
	"azuresu", "azure_superuser", "azure_pg_admin", "supabase_admin", "supabase_storage_admin", "supabase_auth_admin",
	"cloud_admin", "zenith_admin", "neon_service",
}

// PlatformRole reports whether a role is a hosting platform's own.
func PlatformRole(name string) bool { return slices.Contains(PlatformRoles, name) }
