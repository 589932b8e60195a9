package largeobject

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Measure is how the large objects of a database stood at a moment. Logical decoding carries
// none of them, so that what was copied is held against what there is.
type Measure struct {
	Count   int64  `json:"count"`
	Highest uint32 `json:"highest"`
	Sum     int64  `json:"sum"`   // over their numbers
	Pages   int64  `json:"pages"` // rows of pg_largeobject, -1 where the role may not read it
	// Between and PagesBetween sum up the rows that were made between the beginning of the oldest
	// transaction that ran then, and the moment. The snapshot does not tell those of transactions
	// that had ended from those of subtransactions that still ran, whose numbers it does not name.
	Between, PagesBetween int64
	// Writes counts rows of pg_largeobject that were written, by the server's statistics: up to a
	// minute late, with what was rolled back, and lost when the statistics are reset.
	Writes   int64  `json:"writes"`
	Snapshot string `json:"snapshot"` // that the figures but Writes are of
}

// Encode writes a measure for the journal.
func (m Measure) Encode() string {
	b, _ := json.Marshal(m) // of numbers and a string
	return string(b)
}

// DecodeMeasure reads what Encode wrote.
func DecodeMeasure(s string) (m Measure, err error) {
	err = json.Unmarshal([]byte(s), &m)
	return m, pg.Wrap(err, "read the measure of large objects")
}

// window tells rows apart by the transaction that wrote them: after a snapshot, or while it cannot
// be said. They are conditions on xmin.
type window struct{ newer, between string }

func windowOf(snapshot string) (w window, err error) {
	s, err := pg.ParseSnapshot(snapshot)
	if err != nil {
		return w, err
	}
	running := lists.Map(s.Xip, func(x uint64) string { return strconv.FormatUint(uint64(uint32(x)), 10) })
	ran := "xmin = ANY ('{" + strings.Join(running, ",") + "}'::pg_catalog.xid[])"
	since := func(x uint64) string {
		// The xmin of a row that was frozen stays; more than half a round later its age is
		// negative.
		return fmt.Sprintf("pg_catalog.age(xmin) BETWEEN 0 AND pg_catalog.age('%d'::pg_catalog.xid)", uint32(x))
	}
	w.newer = "(" + since(s.Xmax) + " OR " + ran + ")"
	w.between = "(" + since(s.Xmin) + " AND NOT " + w.newer + ")"
	return w, nil
}

// Newer is a condition on a row's xmin: its version was written by a transaction that a snapshot,
// as the server prints it, does not see. It does not hold for subtransactions that ran then.
func Newer(snapshot string) (string, error) {
	w, err := windowOf(snapshot)
	return w.newer, err
}

// count measures without reading the objects' bytes: Pages is -1. It costs one pass over
// pg_largeobject_metadata, which any role may read. since counts what is newer than the window.
func count(ctx context.Context, conn *pgx.Conn, w window) (m Measure, since int64, err error) {
	m.Pages = -1
	err = conn.QueryRow(ctx, `SELECT count(*), coalesce(max(m.oid), 0), coalesce(sum(pg_catalog.hashoid(m.oid)), 0)::int8, count(*) FILTER (WHERE `+w.newer+`),
		coalesce(sum(pg_catalog.hashtext(pg_catalog.format('%s %s', m.oid, m.xmin))) FILTER (WHERE `+w.between+`), 0)::int8,
		pg_catalog.pg_stat_get_tuples_inserted(2613) + pg_catalog.pg_stat_get_tuples_updated(2613) + pg_catalog.pg_stat_get_tuples_deleted(2613),
		pg_catalog.format('%s', pg_catalog.txid_current_snapshot())
		FROM pg_catalog.pg_largeobject_metadata m`).Scan(&m.Count, &m.Highest, &m.Sum, &since, &m.Between, &m.Writes, &m.Snapshot)
	return m, since, pg.Wrap(err, "count large objects")
}

// countPages reads all of pg_largeobject.
func countPages(ctx context.Context, conn *pgx.Conn, w window) (pages, between, objects int64, err error) {
	err = conn.QueryRow(ctx, `SELECT count(*), coalesce(sum(pg_catalog.hashtext(pg_catalog.format('%s %s %s', l.loid, l.pageno, l.xmin))) FILTER (WHERE `+w.between+`), 0)::int8,
		count(DISTINCT l.loid) FILTER (WHERE `+w.newer+`) FROM pg_catalog.pg_largeobject l`).Scan(&pages, &between, &objects)
	return pages, between, objects, pg.Wrap(err, "look for writes to large objects")
}

// Compare measures again, without reading the bytes, and reports whether objects were made or
// removed since m was taken, or given another owner or other privileges. A zero m belongs to a
// database that had none.
func (m Measure) Compare(ctx context.Context, conn *pgx.Conn) (is Measure, differs bool, err error) {
	w := window{newer: "true", between: "false"}
	if m.Snapshot != "" {
		if w, err = windowOf(m.Snapshot); err != nil {
			return is, false, err
		}
	}
	is, since, err := count(ctx, conn, w)
	return is, since > 0 || is.Count != m.Count || is.Sum != m.Sum || is.Between != m.Between, err
}

// Readable reports whether the role may read pg_largeobject, where the bytes are.
func Readable(ctx context.Context, conn *pgx.Conn) (ok bool, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')`).Scan(&ok)
	return ok, err
}

// TakeMeasure measures all: within the transaction of conn, which is of one snapshot, or in one of
// its own.
func TakeMeasure(ctx context.Context, conn *pgx.Conn) (m Measure, err error) {
	if conn.PgConn().TxStatus() == 'I' {
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return m, err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	}
	var snapshot string
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.format('%s', pg_catalog.txid_current_snapshot())`).Scan(&snapshot); err != nil {
		return m, fmt.Errorf("count large objects: %w", err)
	}
	w, err := windowOf(snapshot)
	if err != nil {
		return m, err
	}
	if m, _, err = count(ctx, conn, w); err != nil || m.Count == 0 {
		return m, err
	}
	readable, err := Readable(ctx, conn)
	if err == nil && readable {
		m.Pages, m.PagesBetween, _, err = countPages(ctx, conn, w)
	}
	return m, err
}

// Changed reports whether bytes of the objects have been written since m was taken, and of how
// many objects where rows tell that. It reads all of pg_largeobject.
func (m Measure) Changed(ctx context.Context, conn *pgx.Conn) (objects int64, changed bool, err error) {
	w, err := windowOf(m.Snapshot)
	if err != nil {
		return 0, false, err
	}
	pages, between, objects, err := countPages(ctx, conn, w)
	return objects, objects > 0 || m.Pages >= 0 && (pages != m.Pages || between != m.PagesBetween), err
}
