package journal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// RegisterBackends records that these server processes belong to an incarnation of the proxy, and
// forgets processes that have ended. No processes is a list like any other.
func RegisterBackends(ctx context.Context, conn *pgx.Conn, incarnation string, pids []int32) error {
	_, err := conn.Exec(ctx, `WITH gone AS (
			DELETE FROM crossfade.backend b WHERE NOT EXISTS (
				SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = b.pid AND a.backend_start = b.backend_start)
			AND b.pid <> ALL (coalesce($1::pg_catalog.int4[], '{}')))
		INSERT INTO crossfade.backend (pid, backend_start, incarnation)
		SELECT a.pid, a.backend_start, $2 FROM pg_catalog.pg_stat_activity a WHERE a.pid = ANY ($1::pg_catalog.int4[]) AND a.backend_start IS NOT NULL
		ON CONFLICT (pid) DO UPDATE SET backend_start = EXCLUDED.backend_start, incarnation = EXCLUDED.incarnation`, pids, incarnation)
	if err != nil {
		return fmt.Errorf("register server connections: %w", err)
	}
	return nil
}

// Writer is one session of a database, as the census saw it.
type Writer struct {
	PID                             int32
	User, Application, Address, Age string
}

// OtherIncarnations lists the live server connections of other incarnations (C23).
func OtherIncarnations(ctx context.Context, conn *pgx.Conn, incarnation string) ([]int32, error) {
	rows, _ := conn.Query(ctx, `SELECT b.pid FROM crossfade.backend b
		JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid AND a.backend_start = b.backend_start
		WHERE b.incarnation <> $1`, incarnation)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, fmt.Errorf("look for server connections of other incarnations: %w", err)
	}
	return pids, nil
}

// Expel terminates the server connections of other incarnations and returns how many it met.
func Expel(ctx context.Context, conn *pgx.Conn, incarnation string) (int, error) {
	pids, err := OtherIncarnations(ctx, conn, incarnation)
	if err != nil || len(pids) == 0 {
		return 0, err
	}
	if _, err := conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.unnest($1::integer[]) pid`, pids); err != nil {
		return 0, fmt.Errorf("terminate server connections of other incarnations: %w", err)
	}
	return len(pids), nil
}

// Census lists the client sessions of this database that are neither ours nor of this incarnation's
// proxy: writers that bypass us. proxied are the processes of the proxy's server connections, and
// may be none. Where our role may not see what kind of session another role's is, it counts as a
// client's: a census that leaves it out would be blind to those that it is made for.
func Census(ctx context.Context, conn *pgx.Conn, proxied []int32) ([]Writer, error) {
	rows, _ := conn.Query(ctx, `SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''),
			coalesce(a.client_addr::text, 'local'), coalesce((pg_catalog.clock_timestamp() - a.backend_start)::text, '')
		FROM pg_catalog.pg_stat_activity a
		WHERE a.datname = pg_catalog.current_database() AND coalesce(a.backend_type, 'client backend') = 'client backend' AND a.usesysid IS NOT NULL
		  AND a.pid <> pg_catalog.pg_backend_pid() AND a.pid <> ALL (coalesce($1::pg_catalog.int4[], '{}'))
		  AND coalesce(a.application_name, '') NOT LIKE 'crossfade%'
		ORDER BY a.pid`, proxied)
	writers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Writer])
	if err != nil {
		return nil, fmt.Errorf("take the census of sessions: %w", err)
	}
	return writers, nil
}
