package copy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// relation is the state of one table within a Run.
type relation struct {
	table   Table
	pending bool // nothing was begun of it when the Run began
	// Only the task that begins the relation reads these.
	pass     *pass // the current one
	restarts int   // how often it was begun with nothing kept

	// guarded by the queue's lock
	gen     int    // counts the passes
	left    int    // chunks of this pass that are under way, and what else it waits for
	uncut   []span // of this pass: what no chunk was made of yet
	cut     *pass  // the pass that uncut is of
	resumed bool   // an earlier Run began it, and this one has not yet

	// guarded by the counters' lock: what the progress counts for it
	size, bytes, rows int64
}

// pass is one attempt at a relation, under one snapshot. It never changes.
type pass struct {
	gen     int
	holder  *snapshot.Holder
	facts   facts
	attempt int32 // in the record
	repair  bool  // kept chunks are of other snapshots: what changed since is fetched again
	key     key   // by which it can be; nil if it cannot
	ranges  bool  // the table can be read by ranges of blocks
}

// span is a range of blocks, hi exclusive; hi -1 means to the end.
type span struct{ lo, hi int64 }

func (s span) String() string {
	if s.hi < 0 {
		return fmt.Sprintf("blocks %d to the end", s.lo)
	}
	return fmt.Sprintf("blocks %d to %d", s.lo, s.hi-1)
}

const toEnd = -1

// cutOff takes a span of at most step blocks off what is not cut yet. A rest of
// less than half a step goes with it.
func cutOff(uncut []span, step, blocks int64) (s span, rest []span) {
	gap := uncut[0]
	end := gap.hi
	if end < 0 {
		end = blocks
	}
	step = max(step, 1)
	if end-gap.lo < step+max(step/2, 1) {
		return gap, uncut[1:]
	}
	uncut[0].lo = gap.lo + step
	return span{gap.lo, gap.lo + step}, uncut
}

// gaps returns what the given disjoint spans leave open of 0 to the end.
func gaps(done []span) []span {
	sorted := slices.SortedFunc(slices.Values(done), func(a, b span) int { return int(min(max(a.lo-b.lo, -1), 1)) })
	var open []span
	at := int64(0)
	for _, s := range sorted {
		if s.lo > at {
			open = append(open, span{at, s.lo})
		}
		if s.hi < 0 {
			return open
		}
		at = max(at, s.hi)
	}
	return append(open, span{at, toEnd})
}

// share returns how many of the relation's bytes are in the span.
func (f facts) share(s span) int64 {
	hi := s.hi
	if hi < 0 || hi > f.blocks {
		hi = f.blocks
	}
	if f.blocks <= 0 || s.lo == 0 && hi == f.blocks {
		return f.bytes
	}
	if s.lo >= hi {
		return 0
	}
	return int64(float64(f.bytes) * float64(hi-s.lo) / float64(f.blocks))
}

// whole reports whether the span is all of a table.
func (s span) whole() bool { return s.lo == 0 && s.hi == toEnd }

// CopyOut returns the source's COPY statement for a span. That of a whole table names the table,
// which spares the executor; it takes no row of a table that inherits from it.
func (t Table) copyOut(s span) string {
	if s.whole() {
		return "COPY " + t.target(t.Name) + " TO STDOUT" + t.format(false)
	}
	where := fmt.Sprintf(" WHERE ctid >= '(%d,0)'::pg_catalog.tid", s.lo)
	if s.hi >= 0 {
		where += fmt.Sprintf(" AND ctid < '(%d,0)'::pg_catalog.tid", s.hi)
	}
	return "COPY (SELECT " + pg.QuoteIdents(t.Columns) + " FROM ONLY " + t.Name.String() + where + ") TO STDOUT" + t.format(false)
}

// CopyIn returns the target's COPY statement. With freeze the rows are written as rows that
// everybody sees, which the server allows only where the table was emptied in the same transaction.
func (t Table) copyIn(freeze bool) string {
	return "COPY " + t.target(t.lands()) + " FROM STDIN" + t.format(freeze)
}

// lands is the table of the target that takes the rows.
func (t Table) lands() pg.Name {
	if t.Through.Name != "" {
		return t.Through
	}
	return t.Name
}

// target is the table, or the one above it, with its columns. A table without a column
// to copy gets no list, which means all that are not generated.
func (t Table) target(name pg.Name) string {
	if len(t.Columns) == 0 {
		return name.String()
	}
	return name.String() + " (" + pg.QuoteIdents(t.Columns) + ")"
}

func (t Table) format(freeze bool) string {
	switch {
	case t.Binary && freeze:
		return " WITH (FORMAT binary, FREEZE)"
	case t.Binary:
		return " WITH (FORMAT binary)"
	case freeze:
		return " WITH (FREEZE)"
	}
	return ""
}

// facts are what the source says of a relation under a snapshot.
type facts struct {
	filenode uint32 // the file that the snapshot sees
	bytes    int64  // of the table with its TOAST
	blocks   int64  // of the main fork
	rows     int64  // at the last VACUUM or ANALYZE; 0 if unknown
	heap     bool   // block ranges mean something
}

// factsTimeout bounds one reading of the facts. The sizes of a hundred thousand tables are read in
// seconds; a server that needs longer has stopped answering.
const factsTimeout = 5 * time.Minute

// factsQuery takes the measures of relations. Its two gaps are for the sizes.
const factsQuery = `SELECT c.oid, c.relfilenode, coalesce(%s, 0)::bigint, coalesce(%s, 0)::bigint, greatest(c.reltuples, 0)::bigint,
		coalesce((SELECT a.amname = 'heap' FROM pg_catalog.pg_am a WHERE a.oid = c.relam), true)
	FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)`

const (
	// The exact sizes need a lock on each table for an instant.
	exactBytes  = "pg_catalog.pg_table_size(c.oid)"
	exactBlocks = "pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint"
	// The sizes at the last VACUUM or ANALYZE need none.
	knownBytes  = "greatest(c.relpages, 0)::bigint * pg_catalog.current_setting('block_size')::bigint"
	knownBlocks = "greatest(c.relpages, 0)"
)

// readFacts reads what the snapshot sees of the relations, in a transaction of its own on conn.
// pg_class is read as any table, so that its relfilenode is the file of the snapshot's time; a
// rewrite since then shows when the current one is compared with it. Where a table is locked by the
// application, the sizes are those of its last VACUUM: they only shape the chunks.
func readFacts(ctx context.Context, conn *pgx.Conn, h *snapshot.Holder, oids []uint32, lockTimeout time.Duration) (map[uint32]facts, error) {
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	all, err := measure(ctx, conn, h, oids, lockTimeout, exactBytes, exactBlocks)
	if pg.IsCode(err, pg.CodeLockNotAvailable) {
		all, err = measure(ctx, conn, h, oids, lockTimeout, knownBytes, knownBlocks)
	}
	return all, pg.Wrap(err, "read sizes of tables")
}

func measure(ctx context.Context, conn *pgx.Conn, h *snapshot.Holder, oids []uint32, lockTimeout time.Duration, bytes, blocks string) (all map[uint32]facts, err error) {
	err = h.Read(ctx, conn, lockTimeout, func() (err error) {
		all, err = pg.SelectMap(ctx, conn, func(oid *uint32, f *facts) []any {
			return []any{oid, &f.filenode, &f.bytes, &f.blocks, &f.rows, &f.heap}
		}, fmt.Sprintf(factsQuery, bytes, blocks), oids)
		return err
	})
	return all, err
}

// States of crossfade.relation.
const (
	statePending = "pending"
	stateCopying = "copying"
	stateCopied  = "copied"
	stateReady   = "ready"
)

// record is a row of crossfade.relation.
type record struct {
	state, snapshot string
	through         pg.Name // as Table.Through
	rows            int64   // of a relation that is not finished, the balance of its repairs
	restarts        int
	repairs         int
	keys            int64
}

func (r record) finished() bool { return r.state == stateCopied || r.state == stateReady }

// register makes the rows that are not there yet and returns all of them.
func register(ctx context.Context, conn *pgx.Conn, tables []Table) (map[uint32]record, error) {
	n := len(tables)
	oids, nsps, rels, viaNsps, viaRels := make([]uint32, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, t := range tables {
		oids[i], nsps[i], rels[i], viaNsps[i], viaRels[i] = t.OID, t.Name.Schema, t.Name.Name, t.Through.Schema, t.Through.Name
	}
	if _, err := conn.Exec(ctx, `INSERT INTO crossfade.relation (relid, nsp, rel, via_nsp, via_rel, state, rows, bytes)
		SELECT *, '`+statePending+`', 0, 0 FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]),
			pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[])) t
		ON CONFLICT (relid) DO NOTHING`, oids, nsps, rels, viaNsps, viaRels); err != nil {
		return nil, fmt.Errorf("register tables: %w", err)
	}
	all, err := pg.SelectMap(ctx, conn, func(oid *uint32, r *record) []any {
		return []any{oid, &r.state, &r.snapshot, &r.rows, &r.restarts, &r.repairs, &r.keys, &r.through.Schema, &r.through.Name}
	}, `SELECT r.relid, r.state, coalesce(r.snapshot, ''), r.rows, r.restarts, r.repairs, r.repaired_keys, r.via_nsp, r.via_rel
		FROM crossfade.relation r WHERE r.relid = ANY ($1)`, oids)
	return all, pg.Wrap(err, "register tables")
}

// landing is a row of crossfade.chunk.
type landing struct {
	span
	rows     int64
	snapshot string
}

func landings(ctx context.Context, tx pgx.Tx, oid uint32) ([]landing, error) {
	return pg.Select(ctx, tx, func(l *landing) []any { return []any{&l.lo, &l.hi, &l.rows, &l.snapshot} },
		`SELECT lo, hi, rows, snapshot FROM crossfade.chunk WHERE relid = $1`, oid)
}

// complete reports whether the chunks cover 0 to the end, once each.
func complete(done []landing) bool {
	next := map[int64]int64{}
	for _, l := range done {
		next[l.lo] = l.hi
	}
	at, n := int64(0), 0
	for at != toEnd {
		hi, ok := next[at]
		if !ok || hi != toEnd && hi <= at {
			return false
		}
		at = hi
		n++
	}
	return n == len(done)
}

// findLanding searches for the record of a chunk whose COMMIT had no answer.
func findLanding(ctx context.Context, conn *pgx.Conn, t Table, s span, attempt int32) (l landing, ok bool, err error) {
	l.span = s
	err = conn.QueryRow(ctx, `SELECT c.rows FROM crossfade.chunk c JOIN crossfade.relation r USING (relid, attempt)
		WHERE c.relid = $1 AND c.lo = $2 AND c.hi = $3 AND c.attempt = $4`, t.OID, s.lo, s.hi, attempt).Scan(&l.rows)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, false, nil
	}
	return l, err == nil, pg.Wrap(err, "look for the chunk's record")
}
