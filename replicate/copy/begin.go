package copy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
)

// wish is under what a relation is to be copied, and what of it may stay.
type wish struct {
	snapshot string // as text
	filenode uint32 // the file that this snapshot sees
	repair   bool   // chunks of other snapshots may stay: what changed since can be fetched again
	empty    bool   // nothing may stay
	strict   bool   // nothing of another snapshot may stay, though it be whole
}

// beginning is what beginRelation made of a relation's record.
type beginning struct {
	attempt  int32     // which names this beginning to the chunks that follow
	finished bool      // it is copied already, and nothing was done
	whole    bool      // its chunks leave no gap and are of one snapshot: it only has to be finished
	kept     []landing // chunks that stay
	older    []string  // other snapshots than the wished one that kept chunks are of
	emptied  bool      // chunks that had landed were thrown away
}

// beginRelation moves a relation to copying under a snapshot and file. It waits for chunk
// transactions under way, which hold the record; those that begin later with the number of an
// earlier attempt find that it is over. What has landed before stays if it is of the same snapshot
// and file, or of the same file and may be repaired; otherwise the table is emptied.
func beginRelation(ctx context.Context, conn *pgx.Conn, t Table, w wish) (b beginning, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		b = beginning{}
		through := t.Through.Name != ""
		if through {
			w.repair, w.strict = false, true
			if err := lockTree(ctx, tx, t, w.snapshot); err != nil {
				return err
			}
		}
		var state string
		var filenode uint32
		if err := tx.QueryRow(ctx, `SELECT state, coalesce(filenode, 0) FROM crossfade.relation
			WHERE relid = $1 FOR UPDATE`, t.OID).Scan(&state, &filenode); err != nil {
			return err
		}
		if (record{state: state}).finished() {
			b.finished = true
			return nil
		}
		done, err := landings(ctx, tx, t.OID)
		if err != nil {
			return err
		}
		b.keep(done, filenode, w)
		if b.whole {
			// Each chunk proved, when it landed, that the file was the snapshot's. Later changes of
			// the file are in the stream, as for every finished relation.
			w.snapshot, w.filenode = done[0].snapshot, filenode
		}
		switch {
		case len(b.kept) == 0 && through && len(done) > 0:
			return &treeError{through: t.Through, renew: true, cause: errTreeRows}
		case len(b.kept) == 0 && !through:
			if err := empty(ctx, tx, t, state); err != nil {
				return err
			}
			b.emptied = len(done) > 0
		}
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.delta WHERE relid = $1`, t.OID); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `UPDATE crossfade.relation SET state = '`+stateCopying+`', snapshot = $2, filenode = $3, repaired = NULL,
				attempt = attempt + 1, restarts = restarts + $4, rows = CASE WHEN $5 THEN rows ELSE 0 END, bytes = 0
			WHERE relid = $1 RETURNING attempt`, t.OID, w.snapshot, w.filenode, count(b.emptied), len(b.kept) > 0).Scan(&b.attempt)
	})
	return b, pg.Wrap(err, "begin copy")
}

// errTreeRows is why a tree begins again for one of its leaves.
var errTreeRows = errors.New("rows of one leaf are to be copied again, and on the target they lie among those of others")

// keep decides which of the chunks that have landed may stay.
func (b *beginning) keep(done []landing, filenode uint32, w wish) {
	if len(done) == 0 || w.empty {
		return
	}
	of := lists.AddNew(nil, lists.Map(done, func(l landing) string { return l.snapshot })...)
	if len(of) == 1 && complete(done) && (!w.strict || of[0] == w.snapshot) {
		b.kept, b.whole = done, true
		return
	}
	older := slices.DeleteFunc(of, func(s string) bool { return s == w.snapshot })
	if filenode != w.filenode || len(older) > 0 && !w.repair {
		return
	}
	b.kept, b.older = done, older
}

// empty removes what has landed of a relation, with the records.
func empty(ctx context.Context, tx pgx.Tx, t Table, state string) error {
	if state == stateCopying {
		if _, err := tx.Exec(ctx, "TRUNCATE ONLY "+t.Name.String()); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `DELETE FROM crossfade.chunk WHERE relid = $1`, t.OID)
	return err
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

var (
	// errGap says that records of chunks that had landed are not there: the target
	// lost its last commits.
	errGap = errors.New("the records of its chunks leave a gap: the target has lost commits")
	// errUnrepaired says that chunks of several snapshots were not brought to one.
	errUnrepaired = errors.New("its chunks are of several snapshots and what changed in between was not fetched")
)

// end is what a finished relation's record says.
type end struct {
	snapshot string
	rows     int64
	keys     int64 // fetched again by the repair that this finish ends
}

// finishRelation moves a relation to copied, if its chunks leave no gap and are,
// or were made, those of one snapshot. It may be called again.
func finishRelation(ctx context.Context, conn *pgx.Conn, t Table, attempt int32) (e end, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var r record
		var now int32
		var repaired []byte
		if err := tx.QueryRow(ctx, `SELECT state, coalesce(snapshot, ''), attempt, rows, repaired FROM crossfade.relation WHERE relid = $1 FOR UPDATE`, t.OID).
			Scan(&r.state, &r.snapshot, &now, &r.rows, &repaired); err != nil {
			return err
		}
		e = end{snapshot: r.snapshot, rows: r.rows}
		switch {
		case r.finished():
			return nil
		case now != attempt || r.state == statePending:
			return errStale
		}
		done, err := landings(ctx, tx, t.OID)
		if err != nil {
			return err
		}
		if !complete(done) {
			return errGap
		}
		var left int64
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE $3::bytea IS NULL OR digest > $3)
			FROM crossfade.delta WHERE relid = $1 AND attempt = $2`, t.OID, attempt, repaired).Scan(&e.keys, &left); err != nil {
			return err
		}
		mixed := slices.ContainsFunc(done, func(l landing) bool { return l.snapshot != r.snapshot })
		if mixed && (repaired == nil || left > 0) {
			return errUnrepaired
		}
		if !mixed {
			e.keys = 0
		}
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.delta WHERE relid = $1`, t.OID); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `UPDATE crossfade.relation r SET state = '`+stateCopied+`', rows = r.rows + c.rows, bytes = c.bytes,
				repairs = r.repairs + $2, repaired_keys = r.repaired_keys + $3
			FROM (SELECT coalesce(pg_catalog.sum(rows), 0)::bigint AS rows, coalesce(pg_catalog.sum(bytes), 0)::bigint AS bytes
				FROM crossfade.chunk WHERE relid = $1) c
			WHERE r.relid = $1 RETURNING r.rows`, t.OID, count(mixed), e.keys).Scan(&e.rows)
	})
	return e, pg.Wrap(err, "finish copy")
}

// begin records under what the relation is copied and queues its chunks. When it
// is begun again, it may take another snapshot first.
func (w *worker) begin(ctx context.Context, t *task) error {
	rel := t.rel
	if err := w.connect(ctx); err != nil {
		return err
	}
	if rel.pass.gen < t.gen || w.snapshots.replaced(rel.pass.holder) {
		if err := w.renew(ctx, t); err != nil {
			return err
		}
	}
	p := *rel.pass
	var err error
	if p.key, err = w.keyOf(ctx, t); err != nil {
		w.abandon()
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	b, err := beginRelation(bounded, w.target, rel.table, wish{snapshot: p.holder.Text(), filenode: p.facts.filenode,
		repair: p.key != nil, empty: startsOver(t.cause), strict: w.cfg.OneMoment})
	if err != nil {
		w.abandon()
		return err
	}
	p.attempt, p.repair = b.attempt, len(b.older) > 0
	rel.pass = &p
	w.queue.taken(rel)
	if b.finished {
		return w.finish(ctx, rel, &p, false)
	}
	if err := w.tellBegin(t, b); err != nil {
		return err
	}
	spans := make([]span, len(b.kept))
	for i, l := range b.kept {
		spans[i] = l.span
		w.counters.landed(rel, p.facts.share(l.span), l.rows)
	}
	done := complete(b.kept)
	if done && !p.repair {
		return w.finish(ctx, rel, &p, true)
	}
	var open []span
	if !done {
		open = gaps(spans)
		p.ranges = p.facts.heap && snapshot.BlockRanges(w.source)
	}
	w.queue.begun(t, &p, open, count(p.repair))
	if p.repair {
		return w.askChanges(t, &p, b)
	}
	return nil
}

// tellBegin counts and logs how a relation was begun. The error says that it was
// begun again too often.
func (w *worker) tellBegin(t *task, b beginning) error {
	table := t.rel.table.Name.Display()
	if len(b.kept) > 0 {
		w.cfg.Log.Info().Str("table", table).Int("chunks", len(b.kept)).Bool("older_snapshot", len(b.older) > 0).Msg("table continues with what is copied")
		return nil
	}
	if t.gen == 0 && !b.emptied {
		return nil
	}
	cause := cmp.Or(t.cause, errUnkept)
	t.rel.restarts++
	if t.rel.restarts > w.cfg.MaxRestarts {
		return retry.Permanent(fmt.Errorf("begun again %d times: %w", t.rel.restarts-1, cause))
	}
	w.counters.change(func(p *Progress) { p.Restarts++ })
	w.cfg.Log.Warn().Str("table", table).AnErr("error", cause).Bool("emptied", b.emptied).Msg("table is copied again under a fresh snapshot")
	return nil
}

// errUnkept is why a relation of an earlier Run is emptied.
var errUnkept = errors.New("the snapshot of an earlier start is gone, and the table was rewritten since or has no key by which changed rows could be found")

// keyOf returns the table's key if what changed of it can be fetched again, nil if
// not. A relation that is begun for the first time needs none.
func (w *worker) keyOf(ctx context.Context, t *task) (key, error) {
	if w.cfg.Stream == nil || len(t.rel.table.Key) == 0 || t.rel.table.Through.Name != "" || t.gen == 0 && !t.rel.resumed {
		return nil, nil
	}
	k, err := readKey(ctx, w.source, t.rel.table)
	if errors.Is(err, errNoKey) {
		return nil, nil
	}
	return k, err
}

// renew gives the relation another snapshot, where it needs one, and what that one sees of it.
func (w *worker) renew(ctx context.Context, t *task) error {
	rel, h := t.rel, t.rel.pass.holder
	gone := h.Check(ctx) != nil
	if err := ctx.Err(); err != nil {
		return err
	}
	f := rel.pass.facts
	if gone || errors.Is(t.cause, errRewritten) {
		if w.cfg.OneMoment {
			return retry.Permanent(fmt.Errorf("%w: %w", ErrMoment, cmp.Or(t.cause, snapshot.ErrLost)))
		}
		lost := h
		if !gone {
			lost = nil
		}
		var err error
		if h, f, err = w.freshFacts(ctx, rel, lost); err != nil {
			return err
		}
		w.snapshots.release(rel.pass.holder)
	}
	w.counters.takeBack(rel, f.bytes)
	rel.pass = &pass{gen: t.gen, holder: h, facts: f}
	return nil
}

func (w *worker) freshFacts(ctx context.Context, rel *relation, lost *snapshot.Holder) (*snapshot.Holder, facts, error) {
	h, err := w.snapshots.fresh(ctx, lost)
	if err != nil {
		return nil, facts{}, err
	}
	all, err := readFacts(ctx, w.source, h, []uint32{rel.table.OID}, w.cfg.SourceLockTimeout)
	f := all[rel.table.OID]
	if err == nil && f.filenode == 0 {
		err = ErrGone
	}
	if err != nil {
		w.snapshots.release(h)
		w.abandon()
		return nil, facts{}, err
	}
	return h, f, nil
}
