package watch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/largeobject"
	"crossfade/schema/catalog"
)

const (
	// ScanPatience bounds one scan for the status of rows that no stream carries. It protects the
	// source, and is below what a question may take.
	ScanPatience = 2 * time.Second
	// ArmingScanPatience is the same while a cutover is armed and the applications still work: it
	// finds out how long the scan takes that is repeated under the fence.
	ArmingScanPatience = 20 * time.Second
	// PauseRest is what a scan under the fence leaves of --max-pause for the rest until the
	// decision.
	PauseRest = time.Second
	// scanSlack is left of the caller's time for an answer.
	scanSlack = 500 * time.Millisecond
)

// Scan says how a scan of rows that no stream carries is bounded.
type Scan struct {
	Limit       time.Duration
	Armed       bool           // for a cutover: what is not seen refuses it
	PauseBudget time.Duration  // how much of the pause it may take; 0 for no limit
	Of          machine.Limits // those of the attempt
}

// WithScan is a watcher's question with a bound that is found when it is asked.
func WithScan(ask func(context.Context, *pgx.Conn, *pgx.Conn, Scan) ([]Notice, error), how func() Scan) func(context.Context, *pgx.Conn, *pgx.Conn) ([]Notice, error) {
	return func(ctx context.Context, source, target *pgx.Conn) ([]Notice, error) {
		s := how()
		if deadline, ok := ctx.Deadline(); ok { // the answer is given before the caller's time is up
			s.Limit = max(min(s.Limit, time.Until(deadline)-scanSlack), time.Millisecond)
		}
		return ask(ctx, source, target, s)
	}
}

// ScanForStatus is how long a scan for the status may take.
func ScanForStatus() Scan { return Scan{Limit: ScanPatience} }

// Fits refuses, while a cutover is armed, what took longer than the pause has room for.
func (s Scan) Fits(code, what string, took time.Duration) []Notice {
	if s.PauseBudget == 0 || took <= s.PauseBudget {
		return nil
	}
	return []Notice{{Blocker: control.Blocker{Code: code,
		Detail: fmt.Sprintf("to read %s took %v, and it is read once more in the pause, where --max-pause %v has no more than %v for it", what, took.Round(100*time.Millisecond), s.Of.MaxPause, s.PauseBudget),
		Remedy: s.longer(s.Of.DrainTimeout + 3*took)}}}
}

// Unseen refuses what could not be read in time.
func (s Scan) Unseen(code, what, unknown string) []Notice {
	b := control.Blocker{Code: code, Detail: fmt.Sprintf("%s could not be read within %v: it is not known %s", what, s.Limit.Round(time.Millisecond), unknown), Remedy: s.longer(2 * s.Of.MaxPause)}
	if s.PauseBudget > 0 {
		b.Remedy = "remove what nothing uses (large objects: vacuumlo) until it is read faster, or move it into ordinary tables, large objects into bytea columns; then start over: stop crossfade run, crossfade clean, crossfade run"
	}
	return []Notice{{Blocker: b}}
}

func (s Scan) longer(pause time.Duration) string {
	return fmt.Sprintf("give the pause more time: crossfade cutover --max-pause %v", pause.Truncate(time.Second)+time.Second)
}

// What no stream carries, by its names in the journal.
const (
	MarkLargeObjects  = "large objects"
	MarkExtensionRows = "rows of extensions"
)

// largeObjectMark is the state of the large objects that were copied: none, if none were to be
// copied.
func largeObjectMark(ctx context.Context, target *pgx.Conn) (largeobject.Measure, error) {
	kept, err := journal.LoadMark(ctx, target, MarkLargeObjects)
	if err != nil || kept == "" {
		return largeobject.Measure{}, err
	}
	return largeobject.DecodeMeasure(kept)
}

const copyObjectsAgain = "let the applications keep large objects in bytea columns, or stop them from changing large objects until the cutover; then " + StartOver + " --large-objects"

// ofLargeObjects is what both watchers of large objects report on.
const ofLargeObjects = "large objects"

// AskLargeObjects finds large objects that were made, removed, or given other owners or privileges
// since the copy.
func AskLargeObjects(ctx context.Context, source, target *pgx.Conn) ([]Notice, error) {
	was, err := largeObjectMark(ctx, target)
	if err != nil {
		return nil, err
	}
	is, differs, err := was.Compare(ctx, source)
	if err != nil || !differs {
		return nil, err
	}
	return []Notice{{Of: ofLargeObjects, Blocker: control.Blocker{Code: "large_objects_changed", Remedy: copyObjectsAgain,
		Detail: fmt.Sprintf("the source has %d large objects, the highest with number %d; when they were copied it had %d, the highest with number %d: what was made, removed or altered since is in no stream, and a cutover would lose it",
			is.Count, is.Highest, was.Count, was.Highest)}}}, nil
}

// FindLargeObjectBytes finds bytes that were written to large objects since the copy: exactly,
// where the role may read pg_largeobject and that is read in time; else by the server's statistics,
// which do for the status alone.
func FindLargeObjectBytes(ctx context.Context, source, target *pgx.Conn, s Scan) ([]Notice, error) {
	was, err := largeObjectMark(ctx, target)
	if err != nil || was.Count == 0 {
		return nil, err
	}
	readable, err := largeobject.Readable(ctx, source)
	if err != nil {
		return nil, err
	}
	exactly := "have them compared exactly, on the source: GRANT SELECT ON pg_catalog.pg_largeobject TO " + pg.QuoteIdent(source.Config().User) + "; or "
	unseen := "the role of --source may not read pg_largeobject"
	if readable {
		begin := time.Now()
		var objects int64
		var changed bool
		err := WithTimeLimit(ctx, source, s.Limit, func() (err error) {
			objects, changed, err = was.Changed(ctx, source)
			return err
		})
		switch {
		case err == nil && changed:
			return []Notice{{Of: ofLargeObjects, Blocker: control.Blocker{Code: "large_objects_changed", Remedy: copyObjectsAgain,
				Detail: fmt.Sprintf("bytes of %d large objects were written since they were copied, or cut off: that is in no stream, and a cutover would lose it", objects)}}}, nil
		case err == nil:
			return s.Fits("large_objects_unseen", "pg_largeobject", time.Since(begin)), nil
		case !pg.IsCode(err, pg.CodeQueryCanceled):
			return nil, err
		case s.Armed:
			return s.Unseen("large_objects_unseen", "pg_largeobject", "what was written to large objects since they were copied, which a cutover would lose"), nil
		}
		exactly = ""
		unseen = fmt.Sprintf("pg_largeobject is too large to be read within %v for the status", s.Limit)
	}
	is, _, err := was.Compare(ctx, source)
	if err != nil {
		return nil, err
	}
	if is.Writes > was.Writes {
		return []Notice{{Of: ofLargeObjects, Blocker: control.Blocker{Code: "large_objects_written", Remedy: exactly + copyObjectsAgain,
			Detail: fmt.Sprintf("by the server's statistics (%d writes, %d when they were copied) large objects were written since the copy, which no stream carries and a cutover would lose; %s, so that it cannot be told which", is.Writes, was.Writes, unseen)}}}, nil
	}
	found := Notice{Warns: true, Blocker: control.Blocker{Code: "large_objects_unseen", Remedy: exactly + copyObjectsAgain,
		Detail: fmt.Sprintf("%s: what is written to the %d large objects is told by the server's statistics alone, up to a minute late", unseen, was.Count)}}
	if readable {
		found.Detail += "; a cutover reads it, while it is armed and in the pause"
		found.Remedy = "stop the applications from changing large objects until the cutover"
	}
	return []Notice{found}, nil
}

// WithTimeLimit runs a query of f's with a bound on its time, in a transaction of its own.
func WithTimeLimit(ctx context.Context, conn *pgx.Conn, limit time.Duration, f func() error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", max(1, limit.Milliseconds()))); err != nil {
			return err
		}
		return f()
	})
}

// AskUnlogged finds unlogged tables that were written since they were copied.
func AskUnlogged(ctx context.Context, source, target *pgx.Conn) ([]Notice, error) {
	oids, err := pg.Rows(ctx, source, pgx.RowTo[uint32], `SELECT c.oid`+catalog.FromTables+` AND c.relpersistence = 'u'`)
	switch {
	case err != nil:
		return nil, fmt.Errorf("list unlogged tables: %w", err)
	case len(oids) == 0:
		return nil, nil
	}
	type copied struct {
		Name     pg.Name
		Snapshot string
	}
	tables, err := pg.Select(ctx, target, func(c *copied) []any { return []any{&c.Name.Schema, &c.Name.Name, &c.Snapshot} },
		`SELECT nsp, rel, coalesce(snapshot, '') FROM crossfade.relation WHERE relid = ANY ($1) AND state IN ('copied', 'ready') ORDER BY 1, 2`, oids)
	if err != nil {
		return nil, fmt.Errorf("read what was copied: %w", err)
	}
	var changed, unseen []pg.Name
	end := time.Now().Add(ScanPatience) // of all of them
	for _, t := range tables {
		if !time.Now().Before(end) {
			unseen = append(unseen, t.Name)
			continue
		}
		differs, err := unloggedDiffers(ctx, source, target, t.Name, t.Snapshot, end)
		switch {
		case pg.IsCode(err, pg.CodeQueryCanceled):
			unseen = append(unseen, t.Name)
		case err != nil:
			return nil, fmt.Errorf("look through unlogged table %s: %w", t.Name.Display(), err)
		case differs:
			changed = append(changed, t.Name)
		}
	}
	remedy := func(tables []pg.Name) string {
		sql := lists.Map(tables, func(t pg.Name) string { return fmt.Sprintf("ALTER TABLE %s SET LOGGED", t) })
		return "where the rows matter, on the source: " + strings.Join(sql, "; ") + "; then " + StartOver + "; or have the applications fill the tables again after the switch"
	}
	var found []Notice
	if len(changed) > 0 {
		found = append(found, Notice{Warns: true, Blocker: control.Blocker{Code: "unlogged_changed", Remedy: remedy(changed),
			Detail: "unlogged tables were written since they were copied, which is in no stream: " + displayed(changed) + "; the target has their rows of the copy"}})
	}
	if len(unseen) > 0 {
		found = append(found, Notice{Warns: true, Blocker: control.Blocker{Code: "unlogged_unseen", Remedy: remedy(unseen),
			Detail: fmt.Sprintf("unlogged tables are too large to be looked through within %v, so that it cannot be told whether they were written since they were copied: %s", ScanPatience, displayed(unseen))}})
	}
	return found, nil
}

func displayed(names []pg.Name) string {
	return strings.Join(lists.Map(names, pg.Name.Display), ", ")
}

// unloggedDiffers reports whether a table has rows that the copy did not see, or fewer than the
// copy has. It scans until end.
func unloggedDiffers(ctx context.Context, source, target *pgx.Conn, table pg.Name, copied string, end time.Time) (differs bool, err error) {
	newer, err := largeobject.Newer(copied)
	if err != nil {
		return false, err
	}
	var here, there, since int64
	err = WithTimeLimit(ctx, source, time.Until(end), func() error {
		return source.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE `+newer+`) FROM ONLY `+table.String()).Scan(&here, &since)
	})
	if err == nil && since == 0 {
		err = WithTimeLimit(ctx, target, time.Until(end), func() error { return target.QueryRow(ctx, `SELECT count(*) FROM ONLY `+table.String()).Scan(&there) })
	}
	return since > 0 || err == nil && here != there, err
}
