package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
)

// kept are the kinds that --clean leaves alone: an extension is the platform's as
// often as it is ours, and is not made again where it is.
var kept = []string{"EXTENSION", "DATABASE", "ENCODING", "STDSTRINGS", "SEARCHPATH", kindProperties}

// dropScript drops what the target has of a list, in turns, since what depends on
// another one may stand behind it. What is not there is passed over, and so is a
// schema that others use. Something that depends on an object and is not of the
// list makes it fail; then nothing is dropped.
const dropScript = `
DECLARE
	todo text[] := ARRAY[%s]::text[];
	later text[];
	sql text;
	dropped integer := 0;
BEGIN
	PERFORM pg_catalog.set_config('search_path', '', true);
	LOOP
		later := '{}';
		FOREACH sql IN ARRAY todo LOOP
			BEGIN
				EXECUTE sql;
				dropped := dropped + 1;
			EXCEPTION
				WHEN undefined_table OR undefined_object OR undefined_function OR undefined_column OR invalid_schema_name OR wrong_object_type THEN NULL;
				WHEN dependent_objects_still_exist OR invalid_table_definition OR object_not_in_prerequisite_state THEN
					later := later || sql;
			END;
		END LOOP;
		EXIT WHEN later = '{}';
		IF pg_catalog.cardinality(later) = pg_catalog.cardinality(todo) THEN
			FOREACH sql IN ARRAY todo LOOP
				IF sql !~ '^DROP SCHEMA ' THEN
					EXECUTE sql;
				END IF;
			END LOOP;
			EXIT;
		END IF;
		todo := later;
	END LOOP;
	PERFORM pg_catalog.set_config('crossfade.dropped', dropped::text, false);
END`

// DropExisting drops on the target what the archive is going to make, as
// pg_restore --clean --if-exists does, all of it or nothing. It returns how many
// objects were there.
func (p *Plan) DropExisting(ctx context.Context, conn *pgx.Conn) (int, error) {
	var drops []string
	for _, part := range []Part{PreData, AfterCopy, Decision, Last} {
		for _, e := range p.Entries(part) {
			if e.ID > 0 && !slices.Contains(kept, e.Kind) && len(split(e.Drop)) > 0 {
				drops = append(drops, pg.QuoteLiteral(strings.TrimSpace(e.Drop)))
			}
		}
	}
	if len(drops) == 0 {
		return 0, nil
	}
	slices.Reverse(drops)
	body := fmt.Sprintf(dropScript, strings.Join(drops, ",\n"))
	if err := execute(ctx, conn, "DO "+pg.QuoteLiteral(body)); err != nil {
		if refused, ok := asPgError(err); ok && refused.Code == codeDependent {
			return 0, fmt.Errorf("drop what is on the target: %w (%s); nothing was dropped: drop by hand what depends on it, or leave --clean out", err,
				strings.ReplaceAll(refused.Detail, "\n", ", "))
		}
		return 0, fmt.Errorf("drop what is on the target: %w; nothing was dropped", err)
	}
	var n int
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('crossfade.dropped')::integer`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count what was dropped: %w", err)
	}
	return n, nil
}
