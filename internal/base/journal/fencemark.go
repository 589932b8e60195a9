package journal

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// fenceMark is what the fence of a database is by the catalog's rows and their
// versions: that of its function, and a sum over those of its triggers. A trigger that
// was disabled and enabled again has another version.
const fenceMark = `(SELECT coalesce((SELECT p.oid::text || '/' || p.xmin::text FROM pg_catalog.pg_proc p
		WHERE p.oid = pg_catalog.to_regprocedure('crossfade.fence()')), '') || '/' ||
	coalesce((SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws('/', t.tgrelid, t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid))
		FROM pg_catalog.pg_trigger t WHERE t.tgname = '` + FenceTrigger + `' AND NOT t.tgisinternal), ''))`

// FenceChanged asks the source, while an epoch is fenced, whether its fence is the one
// that the epoch's fence transaction made, and was it all the time since. It returns
// what was changed, "" for nothing, also where the source is not fenced.
func FenceChanged(ctx context.Context, conn *pgx.Conn) (string, error) {
	var was, is string
	var fenced bool
	err := conn.QueryRow(ctx, `SELECT step IN ('fenced', 'draining', 'deciding'), fence, `+fenceMark+` FROM crossfade.run`).Scan(&fenced, &was, &is)
	if err != nil {
		return "", fmt.Errorf("look at the fence: %w", err)
	}
	if !fenced || was == is {
		return "", nil
	}
	function, _, _ := cutLast(was)
	if now, _, _ := cutLast(is); now != function {
		return "function crossfade.fence() was replaced", nil
	}
	// The function is of the fence's own transaction; what is younger was changed since.
	_, xid, _ := cutLast(function)
	rows, _ := conn.Query(ctx, `SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_trigger t
		JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE t.tgname = $1 AND NOT t.tgisinternal AND (t.tgenabled <> 'A' OR pg_catalog.age(t.xmin) < pg_catalog.age($2::text::xid))
		ORDER BY 1, 2 LIMIT 5`, FenceTrigger, xid)
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pg.Name])
	if err != nil {
		return "", fmt.Errorf("look at the fence: %w", err)
	}
	names := lists.Map(tables, pg.Name.Display)
	if len(names) == 0 {
		return "a trigger " + FenceTrigger + " was dropped", nil
	}
	return "trigger " + FenceTrigger + " was changed on " + strings.Join(names, ", "), nil
}

// cutLast cuts a mark at its last slash.
func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
