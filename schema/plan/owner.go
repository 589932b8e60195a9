package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/finding"
	"crossfade/schema/roles"
)

// KindOwner is the kind of entries that we add ourselves: each gives one object
// its owner. Its id is the object's, negative.
const KindOwner = "OWNER"

// ownedKinds are the kinds whose owner pg_restore sets (pg_backup_archiver.c,
// _printTocEntry), in the order in which we do: what other owners must be able to
// create in comes first, and sequences follow the tables that own them.
var ownedKinds = []string{"SCHEMA", "AGGREGATE", "COLLATION", "CONVERSION", "DOMAIN", "EVENT TRIGGER", "FOREIGN DATA WRAPPER", "FOREIGN TABLE",
	"FUNCTION", "MATERIALIZED VIEW", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURAL LANGUAGE", "PROCEDURE", "SERVER", "STATISTICS",
	"TABLE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TYPE", "VIEW", "SEQUENCE"}

// OwnerEntry returns the entry that gives the object of e its owner. Like
// pg_restore it takes the object's description from the statement that drops it.
func OwnerEntry(e *archive.Entry) (archive.Entry, bool) {
	if e.Owner == "" || !slices.Contains(ownedKinds, e.Kind) {
		return archive.Entry{}, false
	}
	object := ""
	if e.Kind == "SCHEMA" { // that of public says only that it is not dropped
		object = "SCHEMA " + pg.QuoteIdent(e.Tag)
	} else {
		s, _ := sqltext.One(e.Drop)
		if !s.Word(0, "drop") {
			return archive.Entry{}, false
		}
		end := len(s.Tokens) - 1
		if s.Word(end, "cascade") { // of a base type and its functions
			end--
		}
		object = s.SQL[s.Tokens[1].Start:s.Tokens[end].End]
	}
	return archive.Entry{ID: -e.ID, Kind: KindOwner, Tag: e.Kind + " " + e.Tag, Schema: e.Schema, Section: e.Section, Owner: e.Owner,
		Definition: "ALTER " + object + " OWNER TO", Dependencies: []int{e.ID}}, true
}

// ownerOrder sorts entries of KindOwner.
func ownerOrder(a, b *archive.Entry) int {
	rank := func(e *archive.Entry) int {
		switch {
		case strings.HasPrefix(e.Tag, "SCHEMA "):
			return 0
		case strings.HasPrefix(e.Tag, "SEQUENCE "):
			return 2
		}
		return 1
	}
	return rank(a) - rank(b)
}

// Owners says which owners a target can give to objects.
type Owners struct {
	// Roles maps the owner at the source to the role of the target that becomes
	// the owner. Objects of others stay with the role that restores them.
	Roles map[string]string
	// Super says that the role that restores is a superuser, who need not ask
	// whether an owner may create where the object is.
	Super bool
}

// ResolveOwners asks the target which of the plan's owners its objects can have.
// Of roles that conn's role is no member of it becomes one, where it may; it stays
// one. Who cannot own is named by a finding.
func (p *Plan) ResolveOwners(ctx context.Context, conn *pgx.Conn, known map[string]string) (Owners, []finding.Finding, error) {
	out := Owners{Roles: map[string]string{}}
	var self string
	if err := conn.QueryRow(ctx, `SELECT current_user::text, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user`).Scan(&self, &out.Super); err != nil {
		return out, nil, fmt.Errorf("read the target's role: %w", err)
	}
	var findings []finding.Finding
	for owner, n := range p.owned() {
		to, mapped := known[owner]
		if !mapped {
			to = owner
		}
		if to == self || !mapped && (slices.Contains(roles.PlatformRoles, owner) || strings.HasPrefix(owner, "pg_")) {
			continue
		}
		why, err := MayOwn(ctx, conn, to)
		if err != nil {
			return out, nil, err
		}
		if why == "" {
			out.Roles[owner] = to
			continue
		}
		findings = append(findings, finding.Finding{Kind: "ROLE", Name: owner, Harmless: true,
			Message: fmt.Sprintf("owns %d objects on the source, which belong to %s on the target: %s", n, self, why),
			Remedy:  "give --roles, or make the role and its owner's privileges by hand: CREATE ROLE " + pg.QuoteIdent(to)})
	}
	slices.SortFunc(findings, func(a, b finding.Finding) int { return strings.Compare(a.Name, b.Name) })
	return out, findings, nil
}

// owned counts the objects of each owner.
func (p *Plan) owned() map[string]int {
	out := map[string]int{}
	for _, e := range p.All() {
		if e.Kind == KindOwner {
			out[e.Owner]++
		}
	}
	return out
}

// NoSuchRole is what MayOwn says of a role that the target does not have.
const NoSuchRole = "the target has no such role"

// MayOwn says why a role cannot become the owner of what conn's role made, "" if it can. conn's
// role must keep the owner's rights by inheritance, since it continues to work with the object.
func MayOwn(ctx context.Context, conn *pgx.Conn, role string) (why string, err error) {
	quoted := pg.QuoteIdent(role)
	for try := 1; ; try++ {
		var there, member bool
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)`, role).Scan(&there)
		if err != nil {
			return "", fmt.Errorf("look for role %s: %w", role, err)
		}
		if !there {
			return NoSuchRole, nil
		}
		query := `SELECT pg_catalog.pg_has_role($1, 'USAGE') AND pg_catalog.pg_has_role($1, 'MEMBER')`
		grant := "GRANT " + quoted + " TO CURRENT_USER"
		if pg.ServerVersion(conn) >= 160000 {
			query = `SELECT pg_catalog.pg_has_role($1, 'USAGE') AND pg_catalog.pg_has_role($1, 'SET')`
			grant += " WITH INHERIT TRUE, SET TRUE"
		}
		if err := conn.QueryRow(ctx, query, role).Scan(&member); err != nil {
			return "", fmt.Errorf("look for the rights on role %s: %w", role, err)
		}
		if member {
			return "", nil
		}
		if try > 1 {
			return "the role that restores does not inherit its rights", nil
		}
		if _, err := conn.Exec(ctx, grant); err != nil {
			refused, ok := errors.AsType[*pgconn.PgError](err)
			if !ok {
				return "", fmt.Errorf("become a member of role %s: %w", role, err)
			}
			return refused.Message, nil
		}
	}
}

// ownerSQL is the statement of an entry of KindOwner. PostgreSQL wants the new owner to be allowed
// to create where the object is; where it is not, it is for the moment.
func ownerSQL(e *archive.Entry, owners Owners) string {
	to, ok := owners.Roles[e.Owner]
	if !ok {
		return ""
	}
	role := pg.QuoteIdent(to)
	alter := e.Definition + " " + role
	schemaItself := strings.HasPrefix(e.Tag, "SCHEMA ")
	if owners.Super || e.Schema == "" && !schemaItself {
		return alter
	}
	may := "pg_catalog.has_schema_privilege(" + pg.QuoteLiteral(to) + ", " + pg.QuoteLiteral(e.Schema) + ", 'CREATE')"
	grant := "GRANT CREATE ON SCHEMA " + pg.QuoteIdent(e.Schema) + " TO " + role
	revoke := "REVOKE CREATE ON SCHEMA " + pg.QuoteIdent(e.Schema) + " FROM " + role
	if schemaItself {
		may = "pg_catalog.has_database_privilege(" + pg.QuoteLiteral(to) + ", pg_catalog.current_database(), 'CREATE')"
		grant = "EXECUTE pg_catalog.format('GRANT CREATE ON DATABASE %I TO %I', pg_catalog.current_database(), " + pg.QuoteLiteral(to) + ")"
		revoke = "EXECUTE pg_catalog.format('REVOKE CREATE ON DATABASE %I FROM %I', pg_catalog.current_database(), " + pg.QuoteLiteral(to) + ")"
	}
	return "DO " + pg.QuoteLiteral("BEGIN IF "+may+" THEN "+alter+"; ELSE "+grant+"; "+alter+"; "+revoke+"; END IF; END")
}

// MentionsRoles reports whether the definitions of such entries name roles.
func MentionsRoles(kind string) bool {
	return kind == "ACL" || kind == "DEFAULT ACL" || kind == "POLICY" || kind == "USER MAPPING" || kind == KindProperties
}

// Roles lists the source's roles that privileges, policies, user mappings and
// properties of the database name, sorted. PUBLIC and the platform's own roles are not in it.
func (p *Plan) Roles() []string {
	names := map[string]bool{}
	for _, e := range p.All() {
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
