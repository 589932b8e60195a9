package journal

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// remains are the tables of the target's journal that stay when a run is finished: what serving
// the target needs when the program is started again, and what was proved.
var remains = []string{"run", "decision", "proof", "pin", "type", "role", "login"}

// Conclude leaves of the target's journal what serving the target needs, with the phase
// PhaseFinished, in one transaction; everything else of the schema is dropped. The fence's triggers
// must be gone. What stays goes with Uninstall.
func Conclude(ctx context.Context, conn *pgx.Conn) error {
	names := make([]string, len(remains))
	for i, name := range remains {
		names[i] = pg.QuoteLiteral(name)
	}
	_, err := conn.PgConn().Exec(ctx, strings.ReplaceAll(concludeSQL, "$remains", strings.Join(names, ", "))).ReadAll()
	if err != nil {
		return fmt.Errorf("reduce schema crossfade to what serving needs: %w", err)
	}
	return nil
}

const concludeSQL = `DO $conclude$
DECLARE it record;
BEGIN
	FOR it IN SELECT c.relname FROM pg_catalog.pg_class c
		WHERE c.relnamespace = 'crossfade'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> ALL (ARRAY[$remains]) LOOP
		EXECUTE pg_catalog.format('DROP TABLE IF EXISTS crossfade.%I CASCADE', it.relname);
	END LOOP;
	FOR it IN SELECT p.oid::pg_catalog.regprocedure::text AS name FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'crossfade'::pg_catalog.regnamespace LOOP
		EXECUTE 'DROP ROUTINE IF EXISTS ' || it.name || ' CASCADE';
	END LOOP;
	UPDATE crossfade.run SET phase = 'finished', archive = NULL, archive_now = NULL, digest = '', roles = '', fingerprint = '', publication = '',
		slot_snapshot = '', changed_at = pg_catalog.clock_timestamp();
	COMMENT ON SCHEMA crossfade IS 'A migration by Crossfade that is finished. It has what "crossfade run" needs to serve this database when it is started again; "crossfade clean" removes it.';
END
$conclude$`
