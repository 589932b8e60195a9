package inquiry

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Role is the role of a connection and what it may do in its database.
type Role struct {
	Name, Database            string
	Super, BypassRLS          bool
	Create, Monitor, Signaler bool
}

// CurrentRole reads the role of a session.
func CurrentRole(ctx context.Context, conn *pgx.Conn) (Role, error) {
	return One[Role](ctx, conn, "rights of the role", `
		SELECT current_user::text, current_database()::text, rolsuper, rolbypassrls,
			has_database_privilege(current_database(), 'CREATE'),
			pg_has_role('pg_monitor', 'USAGE'), pg_has_role('pg_signal_backend', 'USAGE')
		FROM pg_roles WHERE rolname = current_user`)
}
