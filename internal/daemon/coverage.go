package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/replicate/snapshot"
)

// coverage knows which relations of the source were copied, by oid: a table that
// was dropped and made again under its old name is another one. It is safe for
// concurrent use.
type coverage struct {
	mu     sync.Mutex
	copied map[uint32]pg.Name
}

func (c *coverage) set(copied map[uint32]pg.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copied = copied
}

// load reads from the target what was copied.
func (c *coverage) load(ctx context.Context, target *pgx.Conn) error {
	rows, err := target.Query(ctx, `SELECT relid, nsp, rel FROM crossfade.relation WHERE state IN ('copied', 'ready')`)
	if err != nil {
		return fmt.Errorf("read what was copied: %w", err)
	}
	copied := map[uint32]pg.Name{}
	var oid uint32
	var n pg.Name
	if _, err := pgx.ForEachRow(rows, []any{&oid, &n.Schema, &n.Name}, func() error { copied[oid] = n; return nil }); err != nil {
		return fmt.Errorf("read what was copied: %w", err)
	}
	c.set(copied)
	return nil
}

// maxUncovered bounds how many tables an error names.
const maxUncovered = 5

// UncoveredError says that changes on the source would not reach the target, so
// that a cutover would lose them.
type UncoveredError struct{ Reasons []string }

func (e *UncoveredError) Error() string {
	list := e.Reasons
	if len(list) > maxUncovered {
		list = append(list[:maxUncovered:maxUncovered], fmt.Sprintf("and %d more", len(list)-maxUncovered))
	}
	return strings.Join(list, "; ")
}

// check asks the source whether every table is copied and published whole, and
// whether somebody writes behind the triggers' back. It returns an
// *UncoveredError when not (C20).
func (c *coverage) check(ctx context.Context, source *pgx.Conn) error {
	return c.look(ctx, source, true)
}

// look is check; without unpublished it leaves out copied tables that have left the
// publication.
func (c *coverage) look(ctx context.Context, source *pgx.Conn, unpublished bool) error {
	c.mu.Lock()
	copied := c.copied
	c.mu.Unlock()
	var reasons []string
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	rows, err := source.Query(ctx, tablesQuery(source), journal.Publication)
	if err != nil {
		return fmt.Errorf("compare tables and publication: %w", err)
	}
	var oid uint32
	var n pg.Name
	var published, whole bool
	there := map[uint32]bool{}
	_, err = pgx.ForEachRow(rows, []any{&oid, &n.Schema, &n.Name, &published, &whole}, func() error {
		there[oid] = true
		switch old, ok := copied[oid]; {
		case !ok:
			add("table %s was made since the migration began and is not followed: a cutover would lose it", n.Display())
		case old != n:
			add("table %s was renamed to %s since the migration began", old.Display(), n.Display())
		case !published:
			if unpublished {
				add("table %s is not in publication %s any more: what is written to it does not reach the target", n.Display(), journal.Publication)
			}
		case !whole:
			add("publication %s does not publish all of table %s any more", journal.Publication, n.Display())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare tables and publication: %w", err)
	}
	for oid, n := range copied {
		if !there[oid] {
			add("table %s was dropped since the migration began, or made anew", n.Display())
		}
	}
	works := "s.subenabled"
	if snapshot.Version(source) >= 120000 { // before, only superusers may read its oid
		// The worker of one that was disabled ends what it is at first.
		works += " OR EXISTS (SELECT FROM pg_catalog.pg_stat_subscription w WHERE w.subid = s.oid AND w.pid IS NOT NULL)"
	}
	subs, err := source.Query(ctx, `SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
		WHERE d.datname = pg_catalog.current_database() AND (`+works+`) ORDER BY 1`)
	if err != nil {
		return fmt.Errorf("look for subscriptions: %w", err)
	}
	names, err := pgx.CollectRows(subs, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for subscriptions: %w", err)
	}
	for _, name := range names {
		add("subscription %s writes the source, and no fence stops it: disable it first", name)
	}
	if len(reasons) > 0 {
		return &UncoveredError{Reasons: reasons}
	}
	return nil
}

// tablesQuery lists the tables with rows of their own, and how the publication
// $1 has each. Row filters and column lists came with PostgreSQL 15.
func tablesQuery(conn *pgx.Conn) string {
	whole := "p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate"
	if snapshot.Version(conn) >= 150000 {
		whole += " AND pr.prqual IS NULL AND pr.prattrs IS NULL"
	}
	return `SELECT c.oid, n.nspname, c.relname, pr.prrelid IS NOT NULL, coalesce(` + whole + `, false)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1
		LEFT JOIN pg_catalog.pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = c.oid
		WHERE c.relkind = 'r' AND c.relpersistence = 'p'
		  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crossfade') AND n.nspname !~ '^pg_'
		  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
			WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY 2, 3`
}
