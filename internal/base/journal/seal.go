package journal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Seal remembers the fence triggers as they are, each with the transaction that has written its row
// in pg_trigger, and their function, as that of relation 0: one that is disabled, dropped, replaced
// or made again later is another one, even if it looks the same. What is sealed already stays
// sealed.
func Seal(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `INSERT INTO crossfade.seal (relid, nsp, rel, trigger, version)
		SELECT t.tgrelid, n.nspname, c.relname, t.oid, t.xmin::text FROM pg_catalog.pg_trigger t
		JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE t.tgname = $1 AND NOT t.tgisinternal
		UNION ALL SELECT 0, '', '', p.oid, p.xmin::text FROM pg_catalog.pg_proc p WHERE p.oid = pg_catalog.to_regprocedure('crossfade.fence()')
		ON CONFLICT DO NOTHING`, FenceTrigger)
	if err != nil {
		return fmt.Errorf("seal the fence: %w", err)
	}
	return nil
}

// Guarded is the state of the target's fence, and the sessions that write there.
type Guarded struct {
	Shut    bool      // and it was so all the time since it was sealed, as far as its function is concerned
	Touched []pg.Name // tables whose trigger is no longer the one that was sealed, also because it was dropped and made again, by their names then
	Writing []Writer  // sessions in a transaction that has written, which are not Crossfade's
}

// ReadTargetGuard reads how the target is guarded, in one round trip.
func ReadTargetGuard(ctx context.Context, conn *pgx.Conn) (Guarded, error) {
	var g Guarded
	b := &pgx.Batch{}
	b.Queue(`SELECT coalesce(pg_catalog.bool_or(p.prosrc LIKE '%RAISE EXCEPTION%' AND NOT EXISTS (
			SELECT FROM crossfade.seal s WHERE s.relid = 0 AND (s.trigger <> p.oid OR s.version <> p.xmin::text))), false) FROM pg_catalog.pg_proc p
		WHERE p.oid = pg_catalog.to_regprocedure('crossfade.fence()')`).QueryRow(func(row pgx.Row) error { return row.Scan(&g.Shut) })
	b.Queue(`SELECT s.nsp, s.rel FROM crossfade.seal s
		LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = s.relid AND t.oid = s.trigger
		WHERE s.relid <> 0 AND (t.oid IS NULL OR t.xmin::text <> s.version OR t.tgenabled <> 'A') ORDER BY 1, 2`).Query(func(rows pgx.Rows) (err error) {
		g.Touched, err = pgx.CollectRows(rows, pgx.RowToStructByPos[pg.Name])
		return err
	})
	b.Queue(`SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.client_addr::text, ''),
			pg_catalog.to_char(a.xact_start, 'HH24:MI:SS')
		FROM pg_catalog.pg_stat_activity a
		WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_xid IS NOT NULL
			AND a.backend_type NOT IN ('walsender', 'parallel worker', 'autovacuum worker') AND a.application_name NOT LIKE 'crossfade%'
		ORDER BY a.pid`).Query(func(rows pgx.Rows) (err error) {
		g.Writing, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Writer])
		return err
	})
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return Guarded{}, fmt.Errorf("look at how the target is guarded: %w", err)
	}
	return g, nil
}
