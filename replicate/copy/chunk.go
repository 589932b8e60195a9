package copy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/snapshot"
)

var (
	// errRewritten says that the relation's file is not the one that the snapshot
	// sees, or that another table or column had a name of it when rows were read.
	errRewritten = errors.New("table was truncated, rewritten or renamed on the source")
	// errStale says that the record of the relation names another attempt than that of the chunk.
	errStale = errors.New("the record in crossfade.relation was changed by another copier: only one may run against a target")
	// errDisagree says that the two COPY tags differ.
	errDisagree = errors.New("row counts differ")
)

// chunk copies one span and commits it together with its record.
func (w *worker) chunk(ctx context.Context, t *task) (rows int64, err error) {
	if err := w.connect(ctx); err != nil {
		return 0, err
	}
	// A former attempt may have committed without an answer.
	if t.tries > 0 {
		l, landed, err := findLanding(ctx, w.target, t.rel.table, t.span, t.pass.attempt)
		if err != nil || landed {
			return l.rows, err
		}
	}
	freeze, err := w.beginTarget(ctx, t, t.span.whole() && t.rel.table.Through.Name == "")
	if pg.IsCode(err, pg.CodeInsufficientPrivilege, pg.CodeFeatureNotSupported) { // the table can be copied without a lock
		w.abandon()
		freeze, err = w.beginTarget(ctx, t, false)
	}
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			w.abandon()
		}
	}()
	fl := &flight{c: w.counters, share: t.pass.facts.share(t.span)}
	defer fl.end()
	began := time.Now()
	rows, err = w.relay(ctx, t, t.rel.table.copyOut(t.span), freeze, fl)
	if err != nil {
		return 0, err
	}
	if err := w.commitTarget(ctx, t, rows, fl.bytes); err != nil {
		return 0, err
	}
	w.sizer.note(fl.share, time.Since(began))
	failpoint.Here("copy.chunk")
	return rows, nil
}

// beginTarget opens the chunk's transaction on the target. The lock on the relation's record keeps
// it from being begun again until the chunk has ended. With whole set the table is locked, and
// freeze tells that it never held a row, so that it may be emptied and filled with frozen ones.
func (w *worker) beginTarget(ctx context.Context, t *task, whole bool) (freeze bool, err error) {
	name := t.rel.table.Name.String()
	sql := fmt.Sprintf(
		"BEGIN; SELECT 1 FROM crossfade.relation WHERE relid = %d AND state = '%s' AND attempt = %d FOR SHARE",
		t.rel.table.OID, stateCopying, t.pass.attempt)
	if whole {
		sql += "; LOCK TABLE ONLY " + name + " IN ACCESS EXCLUSIVE MODE; SELECT pg_catalog.pg_relation_size(" + pg.QuoteLiteral(name) + ")"
	}
	results, err := w.target.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return false, fmt.Errorf("begin chunk: %w", err)
	}
	if len(results) < 2 || len(results[1].Rows) != 1 {
		w.abandon()
		return false, errStale
	}
	return whole && len(results) == 4 && len(results[3].Rows) == 1 && string(results[3].Rows[0][0]) == "0", nil
}

// relay runs the two COPYs, the source's by the statements out, and returns the number of rows that
// both name. The source's transaction has ended when it returns without error.
func (w *worker) relay(ctx context.Context, t *task, out string, freeze bool, fl *flight) (int64, error) {
	if err := t.pass.holder.Begin(ctx, w.source, w.cfg.SourceLockTimeout); err != nil {
		return 0, err
	}
	table := t.rel.table
	into := table.copyIn(freeze)
	if freeze {
		into = "TRUNCATE ONLY " + table.Name.String() + "; " + into
	}
	sent, file, took, err := w.pump(ctx, fmt.Sprintf("%s; SELECT %s; COMMIT", out, table.file()), into, false, fl)
	switch {
	case err != nil:
		return 0, err
	case file != fmt.Sprint(t.pass.facts.filenode):
		// Read after the rows, while their lock was still held.
		return 0, errRewritten
	case len(sent) != 1 || len(took) != 1:
		return 0, errors.New("a COPY ended without its number of rows")
	case sent[0] != took[0]:
		return 0, fmt.Errorf("%w: the source sent %d, the target took %d: a trigger or rule on the target table changes what is written", errDisagree, sent[0], took[0])
	}
	return took[0], nil
}

// file is the expression that returns the table's file, or NULL if its name now leads to another
// table, or its columns do not have, in order, the names that they had when the copy was planned.
// The rows were read by names; a session that changes one waits for the lock of the reading.
// Identities are the present ones, whatever the transaction's snapshot sees.
func (t *Table) file() string {
	columns := lists.Map(t.Columns, pg.QuoteLiteral)
	return fmt.Sprintf(`(SELECT CASE WHEN coalesce(pg_catalog.array_agg(i.identity ORDER BY a.attnum) FILTER (WHERE i.identity OPERATOR(pg_catalog.=) ANY (w.identities)), '{}'::pg_catalog.text[])
			OPERATOR(pg_catalog.=) w.identities THEN pg_catalog.pg_relation_filenode(%[1]d) END
		FROM (SELECT ARRAY(SELECT pg_catalog.format('%%I.%%I.%%I', %[2]s, %[3]s, u.c) FROM pg_catalog.unnest(ARRAY[%[4]s]::pg_catalog.text[]) WITH ORDINALITY u(c, n) ORDER BY u.n) AS identities) w
		LEFT JOIN (pg_catalog.pg_attribute a CROSS JOIN LATERAL pg_catalog.pg_identify_object(1259::pg_catalog.oid, a.attrelid, a.attnum::pg_catalog.int4) i)
			ON a.attrelid OPERATOR(pg_catalog.=) %[1]d::pg_catalog.oid AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped
		GROUP BY w.identities)`, t.OID, pg.QuoteLiteral(t.Name.Schema), pg.QuoteLiteral(t.Name.Name), strings.Join(columns, ", "))
}

// pump runs a query string with COPYs on each side, and relays the rows. It returns the numbers of
// rows of each COPY, and the value that the source's query after them gave.
func (w *worker) pump(ctx context.Context, out, in string, each bool, fl *flight) (sent []int64, value string, took []int64, err error) {
	r := relay.New(w.bufs, fl.add)
	r.Limit = w.cfg.Limit
	done := w.yielder.Reading(w.source, r.Discard)
	defer done()
	var sourceErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sent, value, sourceErr = relay.CopyOut(ctx, w.source.PgConn(), out, r, each)
	}()
	took, targetErr := relay.CopyIn(ctx, w.target.PgConn(), in, r, each)
	<-ended
	fl.ends = r.Ends
	switch {
	case errors.Is(sourceErr, relay.ErrYielded), sourceErr != nil && !errors.Is(sourceErr, relay.ErrReaderGone):
		return nil, "", nil, fmt.Errorf("%w: %w", ErrRead, sourceErr)
	case targetErr != nil:
		return nil, "", nil, fmt.Errorf("%w: %w", ErrWrite, targetErr)
	case sourceErr != nil:
		return nil, "", nil, fmt.Errorf("%w: %w", ErrRead, sourceErr)
	}
	return sent, value, took, nil
}

func (w *worker) commitTarget(ctx context.Context, t *task, rows, bytes int64) error {
	_, err := w.target.PgConn().Exec(ctx, fmt.Sprintf(
		"INSERT INTO crossfade.chunk (relid, lo, hi, snapshot, rows, bytes, attempt) VALUES (%d, %d, %d, %s, %d, %d, %d); COMMIT",
		t.rel.table.OID, t.span.lo, t.span.hi, pg.QuoteLiteral(t.pass.holder.Text()), rows, bytes, t.pass.attempt)).ReadAll()
	return pg.Wrap(err, "commit chunk")
}

// recordExists reports whether err says that the chunk's record is there: an
// attempt whose end we did not see has committed after all.
func recordExists(err error) bool {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pe.Code == pg.CodeUniqueViolation && pe.SchemaName == "crossfade" && pe.TableName == "chunk"
}

// abandon brings both sessions back to where a new transaction can begin, or
// closes them. A chunk that failed never leaves one of its transactions open.
func (w *worker) abandon() {
	for _, conn := range []**pgx.Conn{&w.source, &w.target} {
		if *conn == nil || !(*conn).IsClosed() && (*conn).PgConn().TxStatus() == 'I' {
			continue
		}
		if !(*conn).IsClosed() {
			ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
			_, err := (*conn).PgConn().Exec(ctx, "ROLLBACK").ReadAll()
			cancel()
			if err == nil {
				continue
			}
		}
		snapshot.Close(*conn)
		*conn = nil
	}
}

const (
	// sharedTable is the size on disk up to which a table is copied with others.
	sharedTable = 2 << 20
	// sharedBytes and sharedTables bound a batch: its locks on the source are held
	// for as long as all of it takes.
	sharedBytes  = 16 << 20
	sharedTables = 32
)

// batches groups the small relations that have not been begun, so that they share transactions and
// round trips. Each job gets some batches.
func batches(rels []*relation, cfg *Config) (alone []*relation, all [][]*relation) {
	var small []*relation
	for _, r := range rels {
		if cfg.ChunkBytes == 0 && r.pending && r.size <= sharedTable && r.table.Through.Name == "" {
			small = append(small, r)
		} else {
			alone = append(alone, r)
		}
	}
	most := min(max(len(small)/(2*cfg.Jobs), 1), sharedTables)
	var b []*relation
	size := int64(0)
	for _, r := range small {
		if len(b) > 0 && (len(b) == most || size+r.size > sharedBytes) {
			all = append(all, b)
			b, size = nil, 0
		}
		b = append(b, r)
		size += r.size
	}
	if len(b) > 0 {
		all = append(all, b)
	}
	return alone, all
}

// batch copies several whole relations in one transaction on either side, which
// also records them as copied. Whatever goes wrong undoes all of it; then each
// relation is copied by itself, and says what is wrong with it.
func (w *worker) batch(ctx context.Context, t *task) error {
	rows, err := w.copyBatch(ctx, t.batch)
	if err != nil {
		w.abandon()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.cfg.Log.Debug().Int("tables", len(t.batch)).AnErr("error", err).Msg("copy small tables one by one")
		w.queue.split(t)
		return nil
	}
	for i, r := range t.batch {
		w.counters.landed(r, r.pass.facts.bytes, rows[i])
		w.counters.copied(r, rows[i], true)
		w.snapshots.release(r.pass.holder)
		w.tell(Copied{Table: r.table, Snapshot: r.pass.holder.Text(), Rows: rows[i]})
	}
	w.queue.finished(len(t.batch))
	return nil
}

func (w *worker) copyBatch(ctx context.Context, rels []*relation) (rows []int64, err error) {
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	h := rels[0].pass.holder
	for _, r := range rels {
		if r.pass.holder != h {
			return nil, errors.New("the tables have different snapshots")
		}
	}
	if err := h.Begin(ctx, w.source, w.cfg.SourceLockTimeout); err != nil {
		return nil, err
	}
	fl := &flight{c: w.counters}
	for _, r := range rels {
		fl.share += r.pass.facts.bytes
	}
	defer fl.end()
	sent, files, took, err := w.pump(ctx, batchOut(rels), batchIn(rels), true, fl)
	if err != nil {
		return nil, err
	}
	want := lists.Map(rels, func(r *relation) string { return strconv.FormatUint(uint64(r.pass.facts.filenode), 10) })
	switch {
	case files != strings.Join(want, " "):
		return nil, errRewritten
	case len(sent) != len(rels) || len(took) != len(rels) || len(fl.ends) != len(rels):
		return nil, errors.New("a COPY ended without its number of rows")
	}
	for i := range rels {
		if sent[i] != took[i] {
			return nil, errDisagree
		}
	}
	if err := pg.Exec(ctx, w.target, batchRecord(rels, took, fl.ends, h.Text())); err != nil {
		return nil, fmt.Errorf("commit batch: %w", err)
	}
	failpoint.Here("copy.chunk")
	return took, nil
}

// batchOut reads the tables and then, while their locks are held, their files.
func batchOut(rels []*relation) string {
	var b strings.Builder
	for _, r := range rels {
		b.WriteString(r.table.copyOut(span{0, toEnd}) + "; ")
	}
	b.WriteString("SELECT pg_catalog.concat_ws(' ', " + strings.Join(lists.Map(rels, func(r *relation) string { return r.table.file() }), ", ") + "); COMMIT")
	return b.String()
}

// batchIn locks the records and the tables, divides by zero unless every record is that of a
// relation that has not been begun and every table never held a row, empties the tables, which
// allows FREEZE, and fills them.
func batchIn(rels []*relation) string {
	var oids, names, sizes []string
	for _, r := range rels {
		oids = append(oids, strconv.FormatUint(uint64(r.table.OID), 10))
		names = append(names, "ONLY "+r.table.Name.String())
		sizes = append(sizes, "pg_catalog.pg_relation_size("+pg.QuoteLiteral(r.table.Name.String())+")")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "BEGIN; SELECT 1 / (pg_catalog.count(*) = %d)::integer FROM (SELECT FROM crossfade.relation WHERE relid IN (%s) AND state = '%s' FOR UPDATE) r; ",
		len(rels), strings.Join(oids, ", "), statePending)
	fmt.Fprintf(&b, "LOCK TABLE %s IN ACCESS EXCLUSIVE MODE; SELECT 1 / (%s = 0)::integer; TRUNCATE %s",
		strings.Join(names, ", "), strings.Join(sizes, " + "), strings.Join(names, ", "))
	for _, r := range rels {
		b.WriteString("; " + r.table.copyIn(true))
	}
	return b.String()
}

// batchRecord records each relation, and its one chunk, and commits.
func batchRecord(rels []*relation, rows, ends []int64, snap string) string {
	var chunks, states []string
	before := int64(0)
	for i, r := range rels {
		bytes := ends[i] - before
		before = ends[i]
		chunks = append(chunks, fmt.Sprintf("(%d, 0, %d, %s, %d, %d)", r.table.OID, toEnd, pg.QuoteLiteral(snap), rows[i], bytes))
		states = append(states, fmt.Sprintf("(%d::oid, %d::oid, %d::bigint, %d::bigint)", r.table.OID, r.pass.facts.filenode, rows[i], bytes))
	}
	return "INSERT INTO crossfade.chunk (relid, lo, hi, snapshot, rows, bytes) VALUES " + strings.Join(chunks, ", ") +
		"; UPDATE crossfade.relation r SET state = '" + stateCopied + "', snapshot = " + pg.QuoteLiteral(snap) +
		", filenode = v.filenode, rows = v.rows, bytes = v.bytes FROM (VALUES " + strings.Join(states, ", ") +
		") v (relid, filenode, rows, bytes) WHERE r.relid = v.relid; COMMIT"
}
