package copy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

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
	if err != nil {
		return fmt.Errorf("delete changed rows: %w", err)
	}
	return nil
}

// nextKeys returns keys whose rows are still to be fetched, and the digest of the last of them.
func (w *worker) nextKeys(ctx context.Context, t *task) (keys [][]string, last []byte, err error) {
	rows, err := w.target.Query(ctx, `SELECT d.digest, d.key FROM crossfade.delta d JOIN crossfade.relation r USING (relid, attempt)
		WHERE d.relid = $1 AND d.attempt = $2 AND d.digest > r.repaired ORDER BY d.digest LIMIT $3`, t.rel.table.OID, t.pass.attempt, batchKeys)
	if err != nil {
		return nil, nil, fmt.Errorf("read changed keys: %w", err)
	}
	defer rows.Close()
	for size := 0; size < batchBytes && rows.Next(); {
		var key []string
		if err := rows.Scan(&last, &key); err != nil {
			return nil, nil, fmt.Errorf("read changed keys: %w", err)
		}
		for _, v := range key {
			size += len(v)
		}
		keys = append(keys, key)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read changed keys: %w", err)
	}
	return keys, last, nil
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
	if err != nil {
		return fmt.Errorf("commit fetched rows: %w", err)
	}
	return nil
}
