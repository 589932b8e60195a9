package largeobject

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// object is one large object of the source.
type object struct {
	oid      uint32
	owner    string
	acl      bool // privileges were granted or taken away
	grantees []string
	rights   []string // SELECT or UPDATE, one for each grantee
	options  []bool   // WITH GRANT OPTION
	comment  *string
}

// pageQuery reads metadata only, which is public. In aclexplode a grantee of 0 is
// everybody; it is given as the empty name, which no role has.
const pageQuery = `SELECT m.oid, pg_catalog.pg_get_userbyid(m.lomowner), m.lomacl IS NOT NULL,
	a.grantees, a.rights, a.options, pg_catalog.obj_description(m.oid, 'pg_largeobject')
	FROM pg_catalog.pg_largeobject_metadata m
	LEFT JOIN LATERAL (
		SELECT pg_catalog.array_agg(CASE e.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(e.grantee)::text END ORDER BY e.grantee, e.privilege_type) AS grantees,
			pg_catalog.array_agg(e.privilege_type ORDER BY e.grantee, e.privilege_type) AS rights,
			pg_catalog.array_agg(e.is_grantable ORDER BY e.grantee, e.privilege_type) AS options
		FROM pg_catalog.aclexplode(m.lomacl) e) a ON true
	WHERE m.oid > $1 ORDER BY m.oid LIMIT $2`

// readPage returns the objects after an OID, in order.
func readPage(ctx context.Context, conn *pgx.Conn, after uint32) ([]object, error) {
	objects, err := pg.Select(ctx, conn, func(o *object) []any {
		return []any{&o.oid, &o.owner, &o.acl, &o.grantees, &o.rights, &o.options, &o.comment}
	}, pageQuery, after, pageSize)
	return objects, pg.Wrap(err, "list large objects")
}

// properties returns the statements that give the object on the target the properties that it has
// on the source, except its bytes. Privileges come before the owner, since only the owner may grant
// them; ALTER … OWNER then transfers them to the new owner.
func (o *object) properties(cfg *Config, have roles, r *Report) []string {
	var sql []string
	name := fmt.Sprintf("LARGE OBJECT %d", o.oid)
	if cfg.Privileges && o.acl {
		sql = append(sql, fmt.Sprintf("REVOKE ALL ON %s FROM CURRENT_USER", name))
		for i, grantee := range o.grantees {
			to := "PUBLIC"
			switch {
			case grantee == o.owner:
				to = "CURRENT_USER"
			case grantee != "":
				role := have.target(cfg, grantee)
				if !have.is[role] {
					r.GrantsLeft++
					continue
				}
				to = pg.QuoteIdent(role)
			}
			grant := fmt.Sprintf("GRANT %s ON %s TO %s", o.rights[i], name, to)
			if o.options[i] {
				grant += " WITH GRANT OPTION"
			}
			sql = append(sql, grant)
		}
	}
	if cfg.Comments && o.comment != nil {
		sql = append(sql, fmt.Sprintf("COMMENT ON %s IS %s", name, pg.QuoteLiteral(*o.comment)))
	}
	if cfg.Owners {
		switch owner := have.target(cfg, o.owner); {
		case owner == have.self:
		case have.may[owner]:
			sql = append(sql, fmt.Sprintf("ALTER %s OWNER TO %s", name, pg.QuoteIdent(owner)))
		default:
			r.OwnersLeft++
		}
	}
	return sql
}

// roles are those of the target.
type roles struct {
	self string
	is   map[string]bool // it exists
	may  map[string]bool // we may give it what is ours
}

func (r roles) target(cfg *Config, source string) string {
	if to, ok := cfg.Roles[source]; ok {
		return to
	}
	return source
}

// readRoles asks for the roles and which of them the session may become: from
// version 16 on that is a right of its own.
func readRoles(ctx context.Context, conn *pgx.Conn, version int) (roles, error) {
	right := "MEMBER"
	if version >= 160000 {
		right = "SET"
	}
	have := roles{is: map[string]bool{}, may: map[string]bool{}}
	rows, _ := conn.Query(ctx, `SELECT r.rolname, r.rolname = current_user, pg_catalog.pg_has_role(r.oid, $1) FROM pg_catalog.pg_roles r`, right)
	var name string
	var self, may bool
	_, err := pgx.ForEachRow(rows, []any{&name, &self, &may}, func() error {
		name := strings.Clone(name)
		have.is[name], have.may[name] = true, may
		if self {
			have.self = name
		}
		return nil
	})
	return have, pg.Wrap(err, "read roles")
}
