package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/replicate/snapshot"
	"crossfade/schema/catalog"
)

// coverage knows which relations of the source were copied, by oid: a table that
// was dropped and made again under its old name is another one. It is safe for
// concurrent use.
type coverage struct {
	mu     sync.Mutex
	copied map[uint32]coveredTable
}

// coveredTable is a table that was copied.
type coveredTable struct {
	name     pg.Name
	followed bool // it was in the publication when the slot was made: it was not unlogged
}

func (c *coverage) set(copied map[uint32]coveredTable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copied = copied
}

// load reads from the target what was copied.
func (c *coverage) load(ctx context.Context, target *pgx.Conn) error {
	rows, err := target.Query(ctx, `SELECT r.relid, r.nsp, r.rel, p.relid IS NOT NULL FROM crossfade.relation r
		LEFT JOIN crossfade.published p ON p.relid = r.relid WHERE r.state IN ('copied', 'ready')`)
	if err != nil {
		return fmt.Errorf("read what was copied: %w", err)
	}
	copied := map[uint32]coveredTable{}
	var oid uint32
	var t coveredTable
	if _, err := pgx.ForEachRow(rows, []any{&oid, &t.name.Schema, &t.name.Name, &t.followed}, func() error { copied[oid] = t; return nil }); err != nil {
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

// check asks the source whether every table is copied and, but for unlogged ones, whose
// changes are in no stream, published whole, and whether somebody writes past the
// triggers. It returns an *UncoveredError when not (C20).
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
	var unlogged, published, whole bool
	there := map[uint32]bool{}
	_, err = pgx.ForEachRow(rows, []any{&oid, &n.Schema, &n.Name, &unlogged, &published, &whole}, func() error {
		there[oid] = true
		switch old, ok := copied[oid]; {
		case !ok:
			add("table %s was made since the migration began and is not followed: a cutover would lose it", n.Display())
		case old.name != n:
			add("table %s was renamed to %s since the migration began", old.name.Display(), n.Display())
		case unlogged: // what changes in it is told by another watcher
		case !old.followed:
			add("table %s was unlogged when the migration began and is logged now: what is written to it does not reach the target; ALTER TABLE %s SET UNLOGGED takes that back", n.Display(), n)
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
	var gone []string // in an order of their own, so that the same is told in the same words
	for oid, t := range copied {
		if !there[oid] {
			gone = append(gone, t.name.Display())
		}
	}
	slices.Sort(gone)
	for _, name := range gone {
		add("table %s was dropped since the migration began, or made again", name)
	}
	// The worker of one that was disabled ends what it is at first. Before 14 only superusers may
	// read its number; one of another database may have the same name then.
	same := "w.subid = s.oid"
	if snapshot.Version(source) < 140000 {
		same = "w.subname = s.subname"
	}
	works := "s.subenabled OR EXISTS (SELECT FROM pg_catalog.pg_stat_subscription w WHERE " + same + " AND w.pid IS NOT NULL)"
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

// tablesQuery lists the tables that are copied, as the catalog's model has them, and how
// the publication $1 has each. Row filters and column lists came with PostgreSQL 15.
func tablesQuery(conn *pgx.Conn) string {
	whole := "p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate"
	if snapshot.Version(conn) >= 150000 {
		whole += " AND pr.prqual IS NULL AND pr.prattrs IS NULL"
	}
	return `SELECT t.oid, t.nspname, t.relname, t.unlogged, pr.prrelid IS NOT NULL, coalesce(` + whole + `, false)
		FROM (SELECT c.oid, n.nspname, c.relname, c.relpersistence = 'u' AS unlogged` + catalog.FromTables + `) t
		LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1
		LEFT JOIN pg_catalog.pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = t.oid
		ORDER BY 2, 3`
}
