package copy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/stream"
)

// Reasons why a relation is begun again rather than repaired.
var (
	errManyChanges = errors.New("more than a fifth of its rows changed since its snapshot was lost")
	errTruncated   = errors.New("it was truncated since its snapshot was lost")
	errKeyless     = errors.New("the stream does not give the key of a row that changed")
)

// startsOver reports whether err says that nothing of the relation can be kept.
func startsOver(err error) bool {
	return errors.Is(err, errNoKey) || errors.Is(err, errManyChanges) || errors.Is(err, errTruncated) || errors.Is(err, errKeyless)
}

// changes collects the keys of one relation that changed between the snapshots of its kept chunks
// and the one under which it continues.
type changes struct {
	table   Table
	attempt int32
	from    []pg.Snapshot // of the kept chunks
	to      pg.Snapshot
	limit   int64 // of keys, beyond which the relation is begun again

	columns map[*stream.Relation][]int
	found   int64 // distinct keys written so far
	bad     error // why it must be begun again
}

// concerns reports whether a transaction is in the new snapshot and not in all of the old ones.
func (c *changes) concerns(xid uint32) bool {
	full := c.to.Widen(xid)
	return c.to.Visible(full) && slices.ContainsFunc(c.from, func(s pg.Snapshot) bool { return !s.Visible(full) })
}

// where returns the places of the key columns in a relation of the stream.
func (c *changes) where(rel *stream.Relation) ([]int, error) {
	if at, ok := c.columns[rel]; ok {
		return at, nil
	}
	at := make([]int, len(c.table.Key))
	for i, name := range c.table.Key {
		at[i] = slices.IndexFunc(rel.Columns, func(col stream.Column) bool { return col.Name == name })
		if at[i] < 0 || rel.Identity != stream.IdentityFull && !rel.Columns[at[i]].Key {
			return nil, errKeyless
		}
	}
	c.columns[rel] = at
	return at, nil
}

// take hands the keys of a change, old and new, to add, as the source wrote them.
// The values are valid until it returns.
func (c *changes) take(ch *stream.Change, add func([][]byte)) error {
	if ch.Kind == stream.KindTruncate {
		return errTruncated
	}
	at, err := c.where(ch.Relation)
	if err != nil {
		return err
	}
	values := make([][]byte, len(at))
	for _, tuple := range [][]stream.Value{ch.OldTuple, ch.NewTuple} {
		if tuple == nil {
			continue
		}
		for i, n := range at {
			v := tuple[n]
			if v.Kind == stream.Unchanged && ch.OldTuple != nil {
				v = ch.OldTuple[n]
			}
			if v.Kind != stream.Text {
				return errKeyless
			}
			values[i] = v.Data
		}
		add(values)
	}
	return nil
}

// digest names a key within its relation.
func digest(values [][]byte) [sha256.Size]byte {
	h := sha256.New()
	var size [4]byte
	for _, v := range values {
		binary.BigEndian.PutUint32(size[:], uint32(len(v)))
		h.Write(size[:])
		h.Write(v)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

const (
	// batchKeys and batchBytes bound what is written to crossfade.delta, or fetched
	// by key, at once: one statement of some hundred kilobytes.
	batchKeys  = 5000
	batchBytes = 512 << 10
	// recentKeys is how many keys are remembered as written, so that a row that is
	// changed again and again costs little.
	recentKeys = 50_000
)

// sink writes keys to crossfade.delta. It is not safe for concurrent use.
type sink struct {
	relids   []uint32
	attempts []int32
	digests  [][]byte
	keys     []string
	bytes    int
	recent   map[recentKey]struct{}
}

type recentKey struct {
	relid  uint32
	digest [sha256.Size]byte
}

func (s *sink) add(relid uint32, attempt int32, values [][]byte) {
	d := digest(values)
	k := recentKey{relid, d}
	if _, ok := s.recent[k]; ok {
		return
	}
	if len(s.recent) >= recentKeys {
		clear(s.recent)
	}
	s.recent[k] = struct{}{}
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	text := arrayText(words)
	s.relids, s.attempts = append(s.relids, relid), append(s.attempts, attempt)
	s.digests, s.keys = append(s.digests, d[:]), append(s.keys, text)
	s.bytes += len(text)
}

func (s *sink) full() bool { return len(s.keys) >= batchKeys || s.bytes >= batchBytes }

// flush writes what was added, and returns how many keys of each relation were
// not there before. It may be repeated after an error.
func (s *sink) flush(ctx context.Context, conn *pgx.Conn) (map[uint32]int64, error) {
	if len(s.keys) == 0 {
		return nil, nil
	}
	fresh, err := pg.SelectMap(ctx, conn, func(relid *uint32, n *int64) []any { return []any{relid, n} }, `WITH fresh AS (
			INSERT INTO crossfade.delta (relid, attempt, digest, key)
			SELECT r.relid, r.attempt, r.digest, r.key::pg_catalog.text[]
			FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int4[]),
				pg_catalog.unnest($3::pg_catalog.bytea[]), pg_catalog.unnest($4::pg_catalog.text[])) AS r(relid, attempt, digest, key)
			ON CONFLICT DO NOTHING RETURNING relid)
		SELECT relid, pg_catalog.count(*) FROM fresh GROUP BY relid`, s.relids, s.attempts, s.digests, s.keys)
	if err != nil {
		return nil, fmt.Errorf("write changed keys: %w", err)
	}
	s.relids, s.attempts, s.digests, s.keys, s.bytes = s.relids[:0], s.attempts[:0], nil, s.keys[:0], 0
	return fresh, nil
}

// askChanges has the keys collected that changed between the snapshots of the
// relation's kept chunks and its own.
func (w *worker) askChanges(t *task, p *pass, b beginning) error {
	r := &request{task: &task{rel: t.rel, gen: t.gen, kind: taskRepair, pass: p}, rows: estimate(p.facts, b.kept)}
	for _, text := range b.older {
		s, err := pg.ParseSnapshot(text)
		if err != nil {
			return err
		}
		if !p.holder.Snapshot().Contains(s) { // no later snapshot of that server
			w.restart(t, errNoKey)
			return nil
		}
		r.from = append(r.from, s)
	}
	w.collector.ask(r)
	return nil
}

// estimate says how many rows a relation has, by what is known of it and by the
// chunks that have landed.
func estimate(f facts, kept []landing) int64 {
	var rows, blocks int64
	for _, l := range kept {
		rows += l.rows
		hi := l.hi
		if hi < 0 {
			hi = max(f.blocks, l.lo+1)
		}
		blocks += hi - l.lo
	}
	if blocks > 0 && f.blocks > blocks {
		rows = int64(float64(rows) / float64(blocks) * float64(f.blocks))
	}
	return max(rows, f.rows)
}

// repair brings a relation whose chunks are of several snapshots to the last of
// them: the rows of every key that changed in between are deleted, in one
// transaction, and fetched again, some thousand keys in each. How far it is stands in
// the relation's record and is written by the same transactions.
func (w *worker) repair(ctx context.Context, t *task) (err error) {
	if err := w.connect(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.abandon()
		}
	}()
	k := t.pass.key
	if err := deleteChanged(ctx, w.target, t, k); err != nil {
		return unfit(err)
	}
	failpoint.Here("copy.repair")
	for {
		keys, last, err := w.nextKeys(ctx, t)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			return w.finish(ctx, t.rel, t.pass, true)
		}
		if err := w.fetch(ctx, t, k, keys, last); err != nil {
			return unfit(err)
		}
		failpoint.Here("copy.repair")
	}
}

// unfit makes an error that says that the two sides do not take each other's keys a reason to begin
// the relation again. A lost snapshot, whose name the server calls an invalid value, is none.
func unfit(err error) error {
	if errors.Is(err, snapshot.ErrLost) {
		return err
	}
	if code := pg.Code(err); len(code) == 5 && (code[:2] == "22" || code[:2] == "42" && code != pg.CodeInsufficientPrivilege) {
		return fmt.Errorf("%w: %w", errNoKey, err)
	}
	return err
}

// deleteChanged deletes the rows of all changed keys, once.
func deleteChanged(ctx context.Context, conn *pgx.Conn, t *task, k key) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var attempt int32
		var repaired []byte
		if err := tx.QueryRow(ctx, `SELECT attempt, repaired FROM crossfade.relation WHERE relid = $1 FOR UPDATE`, t.rel.table.OID).
			Scan(&attempt, &repaired); err != nil {
			return err
		}
		if attempt != t.pass.attempt {
			return errStale
		}
		if repaired != nil {
			return nil
		}
		// Without statistics a nested loop may look cheap.
		if _, err := tx.Exec(ctx, "SET LOCAL enable_nestloop = off"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, k.distinctSQL(t.rel.table), t.rel.table.OID, attempt); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, k.deleteSQL(t.rel.table), t.rel.table.OID, attempt)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE crossfade.relation SET repaired = '', rows = rows - $2 WHERE relid = $1`, t.rel.table.OID, tag.RowsAffected())
		return err
	})
	return pg.Wrap(err, "delete changed rows")
}

// nextKeys returns keys whose rows are still to be fetched, and the digest of the last of them.
func (w *worker) nextKeys(ctx context.Context, t *task) (keys [][]string, last []byte, err error) {
	rows, _ := w.target.Query(ctx, `SELECT d.digest, d.key FROM crossfade.delta d JOIN crossfade.relation r USING (relid, attempt)
		WHERE d.relid = $1 AND d.attempt = $2 AND d.digest > r.repaired ORDER BY d.digest LIMIT $3`, t.rel.table.OID, t.pass.attempt, batchKeys)
	defer rows.Close()
	for size := 0; err == nil && size < batchBytes && rows.Next(); {
		var key []string
		err = rows.Scan(&last, &key)
		for _, v := range key {
			size += len(v)
		}
		keys = append(keys, key)
	}
	rows.Close()
	return keys, last, pg.Wrap(cmp.Or(err, rows.Err()), "read changed keys")
}

// fetch copies the rows of some keys and records in the same transaction that it did.
func (w *worker) fetch(ctx context.Context, t *task, k key, keys [][]string, last []byte) error {
	moved := fmt.Sprintf(`BEGIN; UPDATE crossfade.relation SET repaired = '\x%x' WHERE relid = %d AND attempt = %d AND state = '%s' AND repaired < '\x%x'`,
		last, t.rel.table.OID, t.pass.attempt, stateCopying, last)
	results, err := w.target.PgConn().Exec(ctx, moved).ReadAll()
	if err != nil {
		return fmt.Errorf("begin to fetch: %w", err)
	}
	if len(results) != 2 || results[1].CommandTag.RowsAffected() != 1 {
		return errStale
	}
	fl := &flight{c: w.counters}
	defer fl.end()
	rows, err := w.relay(ctx, t, k.fetchSQL(t.rel.table, keys), false, fl)
	if err != nil {
		return err
	}
	if rows > int64(len(keys)) {
		return fmt.Errorf("%w: the source has several rows for one", errNoKey)
	}
	_, err = w.target.PgConn().Exec(ctx, fmt.Sprintf("UPDATE crossfade.relation SET rows = rows + %d WHERE relid = %d; COMMIT",
		rows, t.rel.table.OID)).ReadAll()
	return pg.Wrap(err, "commit fetched rows")
}
