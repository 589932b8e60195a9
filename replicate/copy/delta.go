package copy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
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

func newSink() *sink { return &sink{recent: map[recentKey]struct{}{}} }

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
	rows, _ := conn.Query(ctx, `WITH fresh AS (
			INSERT INTO crossfade.delta (relid, attempt, digest, key)
			SELECT r.relid, r.attempt, r.digest, r.key::pg_catalog.text[]
			FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int4[]),
				pg_catalog.unnest($3::pg_catalog.bytea[]), pg_catalog.unnest($4::pg_catalog.text[])) AS r(relid, attempt, digest, key)
			ON CONFLICT DO NOTHING RETURNING relid)
		SELECT relid, pg_catalog.count(*) FROM fresh GROUP BY relid`, s.relids, s.attempts, s.digests, s.keys)
	fresh := map[uint32]int64{}
	var relid uint32
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&relid, &n}, func() error { fresh[relid] = n; return nil }); err != nil {
		return nil, fmt.Errorf("write changed keys: %w", err)
	}
	s.relids, s.attempts, s.digests, s.keys, s.bytes = s.relids[:0], s.attempts[:0], nil, s.keys[:0], 0
	return fresh, nil
}
