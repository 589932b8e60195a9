package neonlike

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// systemLock keeps two Prepares from making the service's roles at once.
const systemLock = "SELECT pg_advisory_xact_lock(hashtext('crossfade neonlike'))"

// step is one statement of the recipe and the first server version that has
// what it names, as server_version_num.
type step struct {
	since int
	sql   string
}

// system makes what belongs to the service, in the database postgres. The
// grants of functions hold there only, as on Neon.
var system = []step{
	{0, "CREATE ROLE neon_superuser NOLOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS IN ROLE pg_read_all_data, pg_write_all_data"},
	{0, "GRANT pg_monitor, pg_signal_backend TO neon_superuser WITH ADMIN OPTION"},
	{160000, "GRANT pg_create_subscription TO neon_superuser"},
	{170000, "GRANT pg_maintain TO neon_superuser"},
	{180000, "GRANT pg_signal_autovacuum_worker TO neon_superuser"},
	{0, "GRANT EXECUTE ON FUNCTION pg_show_replication_origin_status() TO neon_superuser"},
	{160000, "GRANT EXECUTE ON FUNCTION pg_export_snapshot(), pg_log_standby_snapshot() TO neon_superuser"},
	{0, "CREATE SCHEMA neon"},
	{0, "CREATE TABLE public.health_check (id int PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT now())"},
}

// makeSystem runs the steps of system, unless an earlier call did.
func makeSystem(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, systemLock); err != nil {
		return err
	}
	var there bool
	var version int
	err := tx.QueryRow(ctx, `SELECT current_setting('server_version_num')::int,
		EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, PrivilegedRole).Scan(&version, &there)
	if err != nil || there {
		return err
	}
	for _, s := range system {
		if version < s.since {
			continue
		}
		if _, err := tx.Exec(ctx, s.sql); err != nil {
			return fmt.Errorf("%s: %w", s.sql, err)
		}
	}
	return nil
}

// customer makes what the console makes for a customer: a role and its
// database. The statements hold the password and must not be shown.
func customer(o Options) []string {
	owner, database := pg.QuoteIdent(o.Owner), pg.QuoteIdent(o.Database)
	return []string{
		"CREATE ROLE " + owner + " LOGIN INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE neon_superuser PASSWORD " + pg.QuoteLiteral(o.Password),
		"CREATE DATABASE " + database + " OWNER " + owner,
		"GRANT ALL PRIVILEGES ON DATABASE " + database + " TO neon_superuser",
	}
}

// withinDatabase hands the schema public over. The default privileges are the
// superuser's: they are about what extensions bring.
func withinDatabase(o Options) []string {
	return []string{
		"ALTER SCHEMA public OWNER TO " + pg.QuoteIdent(o.Owner),
		"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO neon_superuser WITH GRANT OPTION",
		"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO neon_superuser WITH GRANT OPTION",
	}
}
