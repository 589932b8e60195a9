package copy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
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
	rows, _ := conn.Query(ctx, `SELECT r.relid, r.state, coalesce(r.snapshot, ''), r.rows, r.restarts, r.repairs, r.repaired_keys, r.via_nsp, r.via_rel
		FROM crossfade.relation r WHERE r.relid = ANY ($1)`, oids)
	all := make(map[uint32]record, len(tables))
	var oid uint32
	var r record
	_, err := pgx.ForEachRow(rows, []any{&oid, &r.state, &r.snapshot, &r.rows, &r.restarts, &r.repairs, &r.keys, &r.through.Schema, &r.through.Name}, func() error {
		all[oid] = r
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("register tables: %w", err)
	}
	return all, nil
}

// landing is a row of crossfade.chunk.
type landing struct {
	span
	rows     int64
	snapshot string
}

func landings(ctx context.Context, tx pgx.Tx, oid uint32) ([]landing, error) {
	rows, _ := tx.Query(ctx, `SELECT lo, hi, rows, snapshot FROM crossfade.chunk WHERE relid = $1`, oid)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l landing, err error) {
		err = row.Scan(&l.lo, &l.hi, &l.rows, &l.snapshot)
		return l, err
	})
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
	if err != nil {
		return l, false, fmt.Errorf("look for the chunk's record: %w", err)
	}
	return l, true, nil
}
