package copy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

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
	filenode        uint32
	rows, bytes     int64
}

func (r record) finished() bool { return r.state == stateCopied || r.state == stateReady }

// register makes the rows that are not there yet and returns all of them.
func register(ctx context.Context, conn *pgx.Conn, tables []Table) (map[uint32]record, error) {
	oids, nsps, rels := make([]uint32, len(tables)), make([]string, len(tables)), make([]string, len(tables))
	for i, t := range tables {
		oids[i], nsps[i], rels[i] = t.OID, t.Name.Schema, t.Name.Name
	}
	if _, err := conn.Exec(ctx, `INSERT INTO crossfade.relation (relid, nsp, rel, state, rows, bytes)
		SELECT *, '`+statePending+`', 0, 0 FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) t
		ON CONFLICT (relid) DO NOTHING`, oids, nsps, rels); err != nil {
		return nil, fmt.Errorf("register tables: %w", err)
	}
	rows, err := conn.Query(ctx, `SELECT relid, state, coalesce(snapshot, ''), coalesce(filenode, 0), rows, bytes
		FROM crossfade.relation WHERE relid = ANY ($1)`, oids)
	if err != nil {
		return nil, fmt.Errorf("register tables: %w", err)
	}
	defer rows.Close()
	all := make(map[uint32]record, len(tables))
	for rows.Next() {
		var oid uint32
		var r record
		if err := rows.Scan(&oid, &r.state, &r.snapshot, &r.filenode, &r.rows, &r.bytes); err != nil {
			return nil, fmt.Errorf("register tables: %w", err)
		}
		all[oid] = r
	}
	return all, rows.Err()
}

// landing is a row of crossfade.chunk.
type landing struct {
	span
	rows int64
}

// beginRelation moves a relation to copying under the given snapshot and file,
// and returns the chunks that have landed under these already. If there may be
// rows of anything else, the table is emptied first. It waits for chunk
// transactions under way, which hold the record. finished says that the relation
// turned out to be copied.
func beginRelation(ctx context.Context, conn *pgx.Conn, t Table, snap string, f facts) (done []landing, finished bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var r record
		if err := tx.QueryRow(ctx, `SELECT state, coalesce(snapshot, ''), coalesce(filenode, 0) FROM crossfade.relation
			WHERE relid = $1 FOR UPDATE`, t.OID).Scan(&r.state, &r.snapshot, &r.filenode); err != nil {
			return err
		}
		if r.finished() {
			finished = true
			return nil
		}
		if r.state == stateCopying && r.snapshot == snap && r.filenode == f.filenode {
			done, err = landings(ctx, tx, t.OID)
			return err
		}
		if r.state == stateCopying {
			if _, err := tx.Exec(ctx, "TRUNCATE ONLY "+t.Name.String()); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.chunk WHERE relid = $1`, t.OID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE crossfade.relation SET state = '`+stateCopying+`', snapshot = $2, filenode = $3, rows = 0, bytes = 0
			WHERE relid = $1`, t.OID, snap, f.filenode)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("begin copy: %w", err)
	}
	return done, finished, nil
}

func landings(ctx context.Context, tx pgx.Tx, oid uint32) ([]landing, error) {
	rows, err := tx.Query(ctx, `SELECT lo, hi, rows FROM crossfade.chunk WHERE relid = $1`, oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l landing, err error) {
		err = row.Scan(&l.lo, &l.hi, &l.rows)
		return l, err
	})
}

// finishRelation moves a relation to copied, if its chunks leave no gap.
func finishRelation(ctx context.Context, conn *pgx.Conn, t Table, snap string) (rows int64, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var state, recorded string
		if err := tx.QueryRow(ctx, `SELECT state, coalesce(snapshot, '') FROM crossfade.relation WHERE relid = $1 FOR UPDATE`, t.OID).
			Scan(&state, &recorded); err != nil {
			return err
		}
		if recorded != snap || state == statePending {
			return errStale
		}
		done, err := landings(ctx, tx, t.OID)
		if err != nil {
			return err
		}
		if !complete(done) {
			return errors.New("the records of its chunks leave a gap")
		}
		return tx.QueryRow(ctx, `UPDATE crossfade.relation r SET state = CASE r.state WHEN '`+stateReady+`' THEN r.state ELSE '`+stateCopied+`' END,
				rows = c.rows, bytes = c.bytes
			FROM (SELECT coalesce(pg_catalog.sum(rows), 0)::bigint AS rows, coalesce(pg_catalog.sum(bytes), 0)::bigint AS bytes
				FROM crossfade.chunk WHERE relid = $1) c
			WHERE r.relid = $1 RETURNING r.rows`, t.OID).Scan(&rows)
	})
	if err != nil {
		return 0, fmt.Errorf("finish copy: %w", err)
	}
	return rows, nil
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

// findLanding looks for the record of a chunk whose COMMIT had no answer.
func findLanding(ctx context.Context, conn *pgx.Conn, t Table, s span, snap string) (l landing, ok bool, err error) {
	l.span = s
	err = conn.QueryRow(ctx, `SELECT c.rows FROM crossfade.chunk c JOIN crossfade.relation r USING (relid)
		WHERE c.relid = $1 AND c.lo = $2 AND c.hi = $3 AND c.snapshot = $4 AND r.snapshot = c.snapshot`, t.OID, s.lo, s.hi, snap).Scan(&l.rows)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, false, nil
	}
	if err != nil {
		return l, false, fmt.Errorf("look for the chunk's record: %w", err)
	}
	return l, true, nil
}
