package loginrole

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/inquiry"
)

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
	if err != nil {
		return nil, err
	}
	out := make(map[string]login, len(all))
	for _, x := range all {
		out[x.Name] = x
	}
	return out, nil
}
