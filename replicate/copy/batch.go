package copy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

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
