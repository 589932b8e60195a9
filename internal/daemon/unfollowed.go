package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/control"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/replicate/extension"
	"crossfade/replicate/largeobject"
	"crossfade/replicate/snapshot"
	"crossfade/schema/catalog"
)

// What no stream carries, by its names in the journal.
const (
	markLargeObjects  = "large objects"
	markExtensionRows = "rows of extensions"
)

// measure asks the source how something stands: under the copy's snapshot or, where that is gone, now,
// before the copy, so that what is written meanwhile counts as written since.
func (m *migration) measure(ctx context.Context, held *snapshot.Holder, take func(context.Context, *pgx.Conn) (string, error)) (string, error) {
	source, err := m.connectSource(ctx)
	if err != nil {
		return "", err
	}
	defer closeNow(source)
	if held != nil {
		if err := held.Begin(ctx, source, m.lockTimeout); err != nil {
			return "", err
		}
	}
	return take(ctx, source)
}

// withTarget runs f with a session at the target.
func (m *migration) withTarget(ctx context.Context, f func(*pgx.Conn) error) error {
	target, err := m.connectTarget(ctx)
	if err != nil {
		return err
	}
	defer closeNow(target)
	return f(target)
}

// markLargeObjects keeps how the large objects stand that are about to be copied. What an earlier
// attempt has copied is of an earlier moment, so that its mark stays.
func (m *migration) markLargeObjects(ctx context.Context, held *snapshot.Holder) error {
	if m.oneShot() {
		return nil
	}
	return m.withTarget(ctx, func(target *pgx.Conn) error {
		kept, err := journal.LoadMark(ctx, target, markLargeObjects)
		if err != nil || kept != "" {
			return err
		}
		mark, err := m.measure(ctx, held, func(ctx context.Context, conn *pgx.Conn) (string, error) {
			taken, err := largeobject.TakeMeasure(ctx, conn)
			return taken.Encode(), err
		})
		if err != nil {
			return err
		}
		return journal.SaveMark(ctx, target, markLargeObjects, mark)
	})
}

// markedExtensionRows copies the users' rows in tables of extensions by copying, and keeps their digest,
// which is of the same moment or of one before.
func (m *migration) markedExtensionRows(ctx context.Context, held *snapshot.Holder, copying func() error) error {
	if m.oneShot() {
		return copying()
	}
	mark, err := m.measure(ctx, held, extension.Digest)
	if err == nil {
		err = copying()
	}
	if err != nil {
		return err
	}
	return m.withTarget(ctx, func(target *pgx.Conn) error { return journal.SaveMark(ctx, target, markExtensionRows, mark) })
}

// largeObjectMark is how the large objects stood that were copied: none, where none were to be.
func largeObjectMark(ctx context.Context, target *pgx.Conn) (largeobject.Measure, error) {
	kept, err := journal.LoadMark(ctx, target, markLargeObjects)
	if err != nil || kept == "" {
		return largeobject.Measure{}, err
	}
	return largeobject.DecodeMeasure(kept)
}

const copyObjectsAgain = "have the applications keep large objects in bytea columns, or leave them alone until the cutover; then copy again: stop crossfade run, crossfade clean, crossfade run --large-objects"

// askLargeObjects finds large objects that were made, removed, or given other owners or privileges since
// the copy.
func askLargeObjects(ctx context.Context, source, target *pgx.Conn) ([]notice, error) {
	was, err := largeObjectMark(ctx, target)
	if err != nil {
		return nil, err
	}
	is, differs, err := was.Compare(ctx, source)
	if err != nil || !differs {
		return nil, err
	}
	return []notice{{Blocker: control.Blocker{Code: "large_objects_changed", Remedy: copyObjectsAgain,
		Detail: fmt.Sprintf("the source has %d large objects, the highest with number %d; when they were copied it had %d, the highest with number %d: what was made, removed or altered since is in no stream, and a cutover would lose it",
			is.Count, is.Highest, was.Count, was.Highest)}}}, nil
}

// findLargeObjectBytes finds bytes that were written to large objects since the copy: exactly, where the
// role may read pg_largeobject and that is read in time; else by the server's statistics, which do for
// the status alone.
func findLargeObjectBytes(ctx context.Context, source, target *pgx.Conn, s scan) ([]notice, error) {
	was, err := largeObjectMark(ctx, target)
	if err != nil || was.Count == 0 {
		return nil, err
	}
	readable, err := largeobject.Readable(ctx, source)
	if err != nil {
		return nil, err
	}
	exactly := "GRANT SELECT ON pg_catalog.pg_largeobject TO " + pg.QuoteIdent(source.Config().User) + " has them compared exactly; or "
	unseen := "the role of --source may not read pg_largeobject"
	if readable {
		begin := time.Now()
		var objects int64
		var changed bool
		err := bounded(ctx, source, s.limit, func() (err error) {
			objects, changed, err = was.Changed(ctx, source)
			return err
		})
		switch {
		case err == nil && changed:
			return []notice{{Blocker: control.Blocker{Code: "large_objects_changed", Remedy: copyObjectsAgain,
				Detail: fmt.Sprintf("bytes of %d large objects were written since they were copied, or cut off: that is in no stream, and a cutover would lose it", objects)}}}, nil
		case err == nil:
			return s.fits("large_objects_unseen", "pg_largeobject", time.Since(begin)), nil
		case !pg.IsCode(err, pg.CodeQueryCanceled):
			return nil, err
		case s.armed:
			return s.unseen("large_objects_unseen", "pg_largeobject", "what was written to large objects since they were copied, which a cutover would lose"), nil
		}
		exactly = ""
		unseen = fmt.Sprintf("pg_largeobject is too large to be read within %v for the status", s.limit)
	}
	is, _, err := was.Compare(ctx, source)
	if err != nil {
		return nil, err
	}
	if is.Writes > was.Writes {
		return []notice{{Blocker: control.Blocker{Code: "large_objects_written", Remedy: exactly + copyObjectsAgain,
			Detail: fmt.Sprintf("by the server's statistics (%d writes, %d when they were copied) large objects were written since the copy, which no stream carries and a cutover would lose; %s, so that it cannot be told which", is.Writes, was.Writes, unseen)}}}, nil
	}
	found := notice{warns: true, Blocker: control.Blocker{Code: "large_objects_unseen", Remedy: exactly + copyObjectsAgain,
		Detail: fmt.Sprintf("%s: what is written to the %d large objects is told by the server's statistics alone, up to a minute late", unseen, was.Count)}}
	if readable {
		found.Detail += "; a cutover reads it, while it is armed and in the pause"
		found.Remedy = "have the applications leave large objects alone until the cutover"
	}
	return []notice{found}, nil
}

// bounded runs a query of f's with a bound on its time, in a transaction of its own.
func bounded(ctx context.Context, conn *pgx.Conn, limit time.Duration, f func() error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", max(1, limit.Milliseconds()))); err != nil {
			return err
		}
		return f()
	})
}

// findExtensionRows copies the users' rows in tables of extensions again where they have changed: no stream
// carries them, but they are few. Under the fence the applications rest, so that what is copied then is the
// last. The scan's limit bounds the look and, for a cutover, the copy too.
func (m *migration) findExtensionRows(ctx context.Context, source, target *pgx.Conn, s scan) ([]notice, error) {
	was, err := journal.LoadMark(ctx, target, markExtensionRows)
	if err != nil || was == "" {
		return nil, err
	}
	const rows = "rows that users keep in tables of extensions"
	bounded, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	late := func() bool { return bounded.Err() != nil && ctx.Err() == nil }
	begin := time.Now()
	is, err := extension.Digest(bounded, source)
	took := time.Since(begin)
	switch {
	case err != nil && late() && s.armed:
		return s.unseen("extension_rows_unseen", rows, "whether they are as they were copied"), nil
	case err != nil && late():
		return []notice{{warns: true, Blocker: control.Blocker{Code: "extension_rows_unseen",
			Detail: fmt.Sprintf("%s take more than %v to be read, so that they are not compared for the status; a cutover reads them, while it is armed and in the pause", rows, s.limit),
			Remedy: "remove those that nothing uses"}}}, nil
	case err != nil:
		return nil, err
	case is == was:
		return s.fits("extension_rows_unseen", rows, took), nil
	}
	copying := ctx // for the status it has the time of the question
	if s.armed {
		copying = bounded
	}
	if err := m.extensionRows(copying, nil); err != nil {
		if late() && s.armed {
			return s.unseen("extension_rows_unseen", rows, "whether they are on the target as they are by now"), nil
		}
		if passesByItself(copying, err) {
			return nil, err
		}
		return []notice{{Blocker: control.Blocker{Code: "extension_rows_changed", Detail: rows + " were written since they were copied, and could not be copied again: " + err.Error(),
			Remedy: "remove the cause that is named; crossfade run tries again by itself"}}}, nil
	}
	return s.fits("extension_rows_unseen", rows, took), nil
}

// askUnlogged finds unlogged tables that were written since they were copied.
func askUnlogged(ctx context.Context, source, target *pgx.Conn) ([]notice, error) {
	rows, err := source.Query(ctx, `SELECT c.oid`+catalog.FromTables+` AND c.relpersistence = 'u'`)
	if err != nil {
		return nil, fmt.Errorf("list unlogged tables: %w", err)
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil || len(oids) == 0 {
		return nil, err
	}
	type copied struct {
		Name     pg.Name
		Snapshot string
	}
	rows, err = target.Query(ctx, `SELECT nsp, rel, coalesce(snapshot, '') FROM crossfade.relation WHERE relid = ANY ($1) AND state IN ('copied', 'ready') ORDER BY 1, 2`, oids)
	if err != nil {
		return nil, fmt.Errorf("read what was copied: %w", err)
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c copied, err error) {
		err = row.Scan(&c.Name.Schema, &c.Name.Name, &c.Snapshot)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what was copied: %w", err)
	}
	var changed, unseen []string
	end := time.Now().Add(scanPatience) // of all of them
	for _, t := range tables {
		if !time.Now().Before(end) {
			unseen = append(unseen, t.Name.Display())
			continue
		}
		differs, err := unloggedDiffers(ctx, source, target, t.Name, t.Snapshot, end)
		switch {
		case pg.IsCode(err, pg.CodeQueryCanceled):
			unseen = append(unseen, t.Name.Display())
		case err != nil:
			return nil, fmt.Errorf("look through unlogged table %s: %w", t.Name.Display(), err)
		case differs:
			changed = append(changed, t.Name.Display())
		}
	}
	const remedy = "where the rows matter, ALTER TABLE … SET LOGGED and start over: stop crossfade run, crossfade clean, crossfade run; else have the applications fill the tables again after the switch"
	var found []notice
	if len(changed) > 0 {
		found = append(found, notice{warns: true, Blocker: control.Blocker{Code: "unlogged_changed", Remedy: remedy,
			Detail: "unlogged tables were written since they were copied, which is in no stream: " + strings.Join(changed, ", ") + "; the target has their rows of the copy"}})
	}
	if len(unseen) > 0 {
		found = append(found, notice{warns: true, Blocker: control.Blocker{Code: "unlogged_unseen", Remedy: remedy,
			Detail: fmt.Sprintf("unlogged tables are too large to be looked through within %v, so that it cannot be told whether they were written since they were copied: %s", scanPatience, strings.Join(unseen, ", "))}})
	}
	return found, nil
}

// unloggedDiffers reports whether a table has rows that the copy did not see, or fewer than the copy has. It
// looks until end.
func unloggedDiffers(ctx context.Context, source, target *pgx.Conn, table pg.Name, copied string, end time.Time) (differs bool, err error) {
	newer, err := largeobject.Newer(copied)
	if err != nil {
		return false, err
	}
	var here, there, since int64
	err = bounded(ctx, source, time.Until(end), func() error {
		return source.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE `+newer+`) FROM ONLY `+table.String()).Scan(&here, &since)
	})
	if err == nil && since == 0 {
		err = bounded(ctx, target, time.Until(end), func() error { return target.QueryRow(ctx, `SELECT count(*) FROM ONLY `+table.String()).Scan(&there) })
	}
	return since > 0 || err == nil && here != there, err
}
