package copy

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// tree is the leaves of a partitioned table through which their rows are put, since the target may
// route them otherwise than the source did. It is no longer known which rows of the target came
// from which leaf. So a tree is copied under one snapshot, no leaf of it is emptied by itself, and
// none is announced before all are copied: if that is impossible the whole tree is started again.
type tree struct {
	left   int      // leaves that are not copied yet
	copied []Copied // leaves that nobody has been told of yet
}

// treeError says that a tree must begin again.
type treeError struct {
	through pg.Name
	renew   bool // under another snapshot than the shared one
	cause   error
}

func (e *treeError) Error() string {
	return fmt.Sprintf("the rows below %s, which the target routes otherwise, must be copied again together: %v", e.through.Display(), e.cause)
}

func (e *treeError) Unwrap() error { return e.cause }

// trees knows the trees of a Run. It is safe for concurrent use.
type trees struct {
	mu sync.Mutex
	of map[pg.Name]*tree
}

func (x *trees) get(name pg.Name) *tree {
	if x.of[name] == nil {
		lists.Put(&x.of, name, &tree{})
	}
	return x.of[name]
}

// expect counts a leaf that is still to be copied.
func (x *trees) expect(t Table) {
	if t.Through.Name != "" {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.get(t.Through).left++
	}
}

// hold keeps word of a leaf that an earlier Run copied, and reports whether it did.
func (x *trees) hold(c Copied) bool {
	if c.Table.Through.Name == "" {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.get(c.Table.Through)
	t.copied = append(t.copied, c)
	return true
}

// whole returns what may be told now.
func (x *trees) whole() (out []Copied) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range x.of {
		if t.left == 0 {
			out, t.copied = append(out, t.copied...), nil
		}
	}
	return out
}

// tell announces a relation that is copied, or with the last leaf of a tree all of them.
func (r *run) tell(c Copied) {
	if r.trees.hold(c) {
		r.trees.mu.Lock()
		r.trees.get(c.Table.Through).left--
		r.trees.mu.Unlock()
		r.announce(r.trees.whole())
		return
	}
	r.announce([]Copied{c})
}

func (r *run) announce(list []Copied) {
	if r.cfg.OnCopied == nil {
		return
	}
	for _, c := range list {
		r.cfg.OnCopied(c)
	}
}

// fit decides whether what an earlier Run has copied of each tree can be kept: all of it is copied,
// or all that was begun belongs to the snapshot under which the Run continues.
func (r *run) fit(tables []Table, records map[uint32]record, under string) error {
	type seen struct{ begun, finished, leaves, other int }
	found := map[pg.Name]*seen{}
	for _, t := range tables {
		if t.Through.Name == "" {
			continue
		}
		s, rec := found[t.Through], records[t.OID]
		if s == nil {
			s = &seen{}
			found[t.Through] = s
		}
		s.leaves++
		if rec.state == statePending {
			continue
		}
		s.begun++
		if rec.finished() {
			s.finished++
		}
		if rec.snapshot != under {
			s.other++
		}
	}
	for name, s := range found {
		if s.finished < s.leaves && s.other > 0 {
			return &treeError{through: name, cause: errTreeSnapshot}
		}
	}
	return nil
}

var errTreeSnapshot = fmt.Errorf("its leaves are to be of one snapshot, and that of an earlier start is gone")

// lockTree makes beginnings of leaves of one tree wait for each other, until the
// transaction ends, and proves that all that were begun are of one snapshot.
func lockTree(ctx context.Context, tx pgx.Tx, t Table, under string) error {
	h := fnv.New32a()
	_, _ = h.Write([]byte(t.Through.String()))
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_advisory_xact_lock($1, $2)`, treeLock, int32(h.Sum32())); err != nil {
		return err
	}
	var other int64
	if err := tx.QueryRow(ctx, `SELECT pg_catalog.count(*) FROM crossfade.relation r WHERE r.via_nsp = $1 AND r.via_rel = $2
		AND r.relid <> $3 AND r.state <> '`+statePending+`' AND r.snapshot IS DISTINCT FROM $4`, t.Through.Schema, t.Through.Name, t.OID, under).Scan(&other); err != nil {
		return err
	}
	if other > 0 {
		return &treeError{through: t.Through, renew: true, cause: errTreeSnapshot}
	}
	return nil
}

// renew takes a snapshot for each tree that needs one of its own and has not been begun, and puts
// what it sees of the leaves into known.
func (r *run) renew(ctx context.Context, source *pgx.Conn, tables []Table, records map[uint32]record, renewed map[pg.Name]bool, known map[uint32]facts) (own map[pg.Name]*snapshot.Holder, err error) {
	own = map[pg.Name]*snapshot.Holder{}
	defer func() {
		if err != nil {
			for _, h := range own {
				r.snapshots.release(h)
			}
		}
	}()
	for name := range renewed {
		oids := lists.Pick(tables, func(t Table) (uint32, bool) {
			return t.OID, t.Through == name && records[t.OID].state == statePending
		})
		if len(oids) == 0 {
			continue
		}
		h, err := r.snapshots.fresh(ctx, nil)
		if err != nil {
			return own, err
		}
		own[name] = h
		seen, err := readFacts(ctx, source, h, oids, r.cfg.SourceLockTimeout)
		if err != nil {
			return own, err
		}
		for _, oid := range oids {
			known[oid] = seen[oid]
		}
	}
	return own, nil
}

// treeLock is the class of our advisory locks, in a database of its own users'
// choosing: it spells "cfTr".
const treeLock int32 = 0x63665472

// emptyTree restarts all leaves of a tree. It waits for chunks under way.
func emptyTree(ctx context.Context, conn *pgx.Conn, through pg.Name) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `SELECT relid, nsp, rel FROM crossfade.relation WHERE via_nsp = $1 AND via_rel = $2 ORDER BY relid FOR UPDATE`,
			through.Schema, through.Name)
		var oid uint32
		var name pg.Name
		var oids []uint32
		var leaves []string
		if _, err := pgx.ForEachRow(rows, []any{&oid, &name.Schema, &name.Name}, func() error {
			oids, leaves = append(oids, oid), append(leaves, "ONLY "+name.String())
			return nil
		}); err != nil {
			return err
		}
		slices.Sort(leaves)
		for _, sql := range []string{`DELETE FROM crossfade.chunk WHERE relid = ANY ($1)`, `DELETE FROM crossfade.delta WHERE relid = ANY ($1)`,
			`UPDATE crossfade.relation SET state = '` + statePending + `', snapshot = NULL, filenode = NULL, repaired = NULL, attempt = attempt + 1,
				restarts = restarts + 1, rows = 0, bytes = 0 WHERE relid = ANY ($1)`} {
			if _, err := tx.Exec(ctx, sql, oids); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "TRUNCATE "+strings.Join(leaves, ", "))
		return err
	})
	return pg.Wrap(err, "begin the rows below %s again", through.Display())
}
