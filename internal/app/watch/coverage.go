package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
)

// Coverage knows which relations of the source were copied, by oid: a table that was dropped and
// made again under its old name is another one. It is safe for concurrent use.
type Coverage struct {
	mu     sync.Mutex
	copied map[uint32]CoveredTable
}

// CoveredTable is a table that was copied.
type CoveredTable struct {
	Name     pg.Name
	Followed bool // it was in the publication when the slot was made: it was not unlogged
}

// Set says what was copied, by oid.
func (c *Coverage) Set(copied map[uint32]CoveredTable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copied = copied
}

// Load reads from the target what was copied.
func (c *Coverage) Load(ctx context.Context, target *pgx.Conn) error {
	copied, err := pg.SelectMap(ctx, target, func(oid *uint32, t *CoveredTable) []any {
		return []any{oid, &t.Name.Schema, &t.Name.Name, &t.Followed}
	}, `SELECT r.relid, r.nsp, r.rel, p.relid IS NOT NULL FROM crossfade.relation r
		LEFT JOIN crossfade.published p ON p.relid = r.relid WHERE r.state IN ('copied', 'ready')`)
	if err == nil {
		c.Set(copied)
	}
	return pg.Wrap(err, "read what was copied")
}

// maxUncovered bounds how many tables an error names.
const maxUncovered = 5

// UncoveredError says that changes on the source would not reach the target, so
// that a cutover would lose them.
type UncoveredError struct{ Reasons []Uncovered }

// Uncovered is one of the reasons, and what an operator can do about it.
type Uncovered struct {
	Detail, Remedy string
	Table          string // as it is shown, when the run began; "" if it belongs to no table
}

func (e *UncoveredError) Error() string {
	list := lists.Map(e.Reasons, func(r Uncovered) string { return r.Detail })
	if len(list) > maxUncovered {
		list = append(list[:maxUncovered:maxUncovered], fmt.Sprintf("and %d more", len(list)-maxUncovered))
	}
	return strings.Join(list, "; ")
}

// Check asks the source whether every table is copied and is published in full (except for unlogged
// tables, whose changes are in no stream), and whether anything writes without firing the triggers.
// It returns an *UncoveredError if not (C20).
func (c *Coverage) Check(ctx context.Context, source *pgx.Conn) error {
	return c.uncovered(ctx, source, true)
}

// uncovered is Check; without unpublished it leaves out copied tables that are no longer in the
// publication, or no longer published in full.
func (c *Coverage) uncovered(ctx context.Context, source *pgx.Conn, unpublished bool) error {
	c.mu.Lock()
	copied := c.copied
	c.mu.Unlock()
	var reasons []Uncovered
	add := func(table, remedy, format string, args ...any) {
		reasons = append(reasons, Uncovered{Detail: fmt.Sprintf(format, args...), Remedy: remedy, Table: table})
	}
	made := map[string]pg.Name{}
	rows, _ := source.Query(ctx, tablesQuery(source), journal.Publication)
	var oid uint32
	var n pg.Name
	var unlogged, published, whole bool
	there := map[uint32]bool{}
	_, err := pgx.ForEachRow(rows, []any{&oid, &n.Schema, &n.Name, &unlogged, &published, &whole}, func() error {
		there[oid] = true
		switch old, ok := copied[oid]; {
		case !ok:
			made[n.Display()] = n
		case old.Name != n:
			add(old.Name.Display(), "on the source: "+renameBack(n, old.Name)+"; or "+StartOver, "table %s was renamed to %s since the migration began", old.Name.Display(), n.Display())
		case unlogged: // what changes in it is reported by another watcher
		case !old.Followed:
			add(n.Display(), fmt.Sprintf("on the source: ALTER TABLE %s SET UNLOGGED; or %s", n, StartOver), "table %s was unlogged when the migration began and is logged now: what is written to it does not reach the target", n.Display())
		case !published:
			if unpublished {
				add(n.Display(), StartOver, "table %s is not in publication %s any more: what is written to it does not reach the target", n.Display(), journal.Publication)
			}
		case !whole:
			if unpublished {
				add(n.Display(), StartOver, "publication %s does not publish all of table %s any more", journal.Publication, n.Display())
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare tables and publication: %w", err)
	}
	var gone []string // in a fixed order, so that the same reasons give the same text
	for oid, t := range copied {
		if !there[oid] {
			gone = append(gone, t.Name.Display())
		}
	}
	slices.Sort(gone)
	for _, name := range gone {
		if _, again := made[name]; again {
			delete(made, name)
			add(name, StartOver, "table %s was dropped and made again since the migration began: the one that is there is not followed, and a cutover would lose it", name)
			continue
		}
		add(name, StartOver, "table %s was dropped since the migration began", name)
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		add(name, fmt.Sprintf("%s; or, where nobody needs it, on the source: DROP TABLE %s", StartOver, made[name]), "table %s was made since the migration began and is not followed: a cutover would lose it", name)
	}
	// The worker of one that was disabled ends what it is at first. Before 14 only superusers may
	// read its number; one of another database may have the same name then.
	same := "w.subid = s.oid"
	if pg.ServerVersion(source) < 140000 {
		same = "w.subname = s.subname"
	}
	works := "s.subenabled OR EXISTS (SELECT FROM pg_catalog.pg_stat_subscription w WHERE " + same + " AND w.pid IS NOT NULL)"
	names, err := pg.Rows(ctx, source, pgx.RowTo[string], `SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
		WHERE d.datname = pg_catalog.current_database() AND (`+works+`) ORDER BY 1`)
	if err != nil {
		return fmt.Errorf("look for subscriptions: %w", err)
	}
	for _, name := range names {
		add("", "on the source: ALTER SUBSCRIPTION "+pg.QuoteIdent(name)+" DISABLE", "subscription %s writes the source, and no fence stops it", name)
	}
	if len(reasons) > 0 {
		return &UncoveredError{Reasons: reasons}
	}
	return nil
}

// renameBack is the statement that gives a table its old name.
func renameBack(is, was pg.Name) string {
	var sql []string
	if is.Name != was.Name {
		sql = append(sql, fmt.Sprintf("ALTER TABLE %s RENAME TO %s", is, pg.QuoteIdent(was.Name)))
	}
	if is.Schema != was.Schema {
		sql = append(sql, fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", pg.Name{Schema: is.Schema, Name: was.Name}, pg.QuoteIdent(was.Schema)))
	}
	return strings.Join(sql, "; ")
}

// tablesQuery lists the tables that are copied, as the catalog's model has them, and how
// the publication $1 has each. Row filters and column lists came with PostgreSQL 15.
func tablesQuery(conn *pgx.Conn) string {
	whole := "p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate"
	if pg.ServerVersion(conn) >= 150000 {
		whole += " AND pr.prqual IS NULL AND pr.prattrs IS NULL"
	}
	return `SELECT t.oid, t.nspname, t.relname, t.unlogged, pr.prrelid IS NOT NULL, coalesce(` + whole + `, false)
		FROM (SELECT c.oid, n.nspname, c.relname, c.relpersistence = 'u' AS unlogged` + catalog.FromTables + `) t
		LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1
		LEFT JOIN pg_catalog.pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = t.oid
		ORDER BY 2, 3`
}

// Ask is check as a watcher's question. What has left the publication is the members'.
func (c *Coverage) Ask(ctx context.Context, source, _ *pgx.Conn) ([]Notice, error) {
	c.mu.Lock()
	known := c.copied != nil
	c.mu.Unlock()
	if !known { // every table would seem to have been made since
		return nil, fmt.Errorf("what was copied has not been read yet: %w", context.DeadlineExceeded)
	}
	err := c.uncovered(ctx, source, false)
	if uncovered, ok := errors.AsType[*UncoveredError](err); ok {
		return uncovered.notices(), nil
	}
	return nil, err
}

// OfTable is what notices about a table are of.
func OfTable(name string) string {
	if name == "" {
		return ""
	}
	return "table " + name
}

// notices tell each reason with its remedy.
func (e *UncoveredError) notices() []Notice {
	var found []Notice
	for i, r := range e.Reasons {
		if i == MostChanges {
			found = append(found, Notice{Blocker: control.Blocker{Code: "not_followed", Detail: fmt.Sprintf("%d more changes of tables are not followed", len(e.Reasons)-i), Remedy: StartOver}})
			break
		}
		found = append(found, Notice{Of: OfTable(r.Table), Blocker: control.Blocker{Code: "not_followed", Detail: r.Detail, Remedy: r.Remedy}})
	}
	return found
}
