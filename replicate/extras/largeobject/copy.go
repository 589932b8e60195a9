package largeobject

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

const (
	// pageSize is how many objects' metadata are read at once.
	pageSize = 1000
	// DefaultPieceBytes is how much of an object is read and written at once.
	DefaultPieceBytes = 1 << 20
	// firstBytes is how much of every object is asked for at first: most are not
	// larger, and groupObjects of them go in one round trip and one transaction.
	firstBytes   = 64 << 10
	groupObjects = 64
)

// Config says what is copied, from where to where.
type Config struct {
	Source snapshot.Connect
	Target snapshot.Connect

	// Snapshot is what the objects are read under. It belongs to the caller. If
	// nil, each page is read as it is then.
	Snapshot *snapshot.Holder

	// Roles maps the source's role names to the target's, where they differ.
	Roles map[string]string
	// Owners and Privileges say whether to carry these over; what the target's
	// role may not give is left out and counted.
	Owners, Privileges, Comments bool

	PieceBytes  int           // DefaultPieceBytes if 0
	LockTimeout time.Duration // for locks on the source; zero means without a bound

	// Progress, if set, is called after each commit on the target.
	Progress func(objects, bytes int64)
}

// Report is what was done.
type Report struct {
	Objects int64 // on the target now, those of an earlier call included
	Bytes   int64 // copied by this call
	// OwnersLeft counts the objects that belong to the target's own role, since it may not give
	// them to theirs; GrantsLeft the privileges of roles that the target does not have.
	OwnersLeft, GrantsLeft int64
}

func (c *Config) validate() error {
	if c.Source == nil || c.Target == nil {
		return errors.New("copy large objects: no way to connect given")
	}
	c.PieceBytes = cmp.Or(c.PieceBytes, DefaultPieceBytes)
	if c.PieceBytes < 1 || c.LockTimeout < 0 {
		return errors.New("copy large objects: negative bound")
	}
	return nil
}

// ErrTaken says that the target has a large object of its own under a number that the source uses.
var ErrTaken = errors.New("the target has a large object of that number already")

// Copy copies every large object that is not recorded as copied. It can be called again after an
// error or in a new process and continues where it was; it must not be called twice at the same
// time. The schema crossfade must be on the target. Errors of lost connections are returned as they
// are: the caller tries again.
func Copy(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.validate(); err != nil {
		return Report{}, err
	}
	source, err := cfg.Source(ctx)
	if err != nil {
		return Report{}, err
	}
	defer snapshot.Close(source)
	target, err := cfg.Target(ctx)
	if err != nil {
		return Report{}, err
	}
	defer snapshot.Close(target)
	have, err := readRoles(ctx, target, pg.ServerVersion(target))
	if err != nil {
		return Report{}, err
	}
	c := &copier{cfg: &cfg, source: source, target: target, have: have}
	after := uint32(0)
	for {
		last, err := c.page(ctx, after)
		if err != nil || last == after {
			return c.report, err
		}
		after = last
	}
}

type copier struct {
	cfg            *Config
	source, target *pgx.Conn
	have           roles
	report         Report
}

// page copies the next page of objects and returns the last one's OID; if there is none, the OID
// that it began after.
func (c *copier) page(ctx context.Context, after uint32) (last uint32, err error) {
	if err := snapshot.BeginOn(ctx, c.source, c.cfg.Snapshot, c.cfg.LockTimeout); err != nil {
		return 0, err
	}
	objects, err := readPage(ctx, c.source, after)
	if err != nil || len(objects) == 0 {
		return after, err
	}
	todo, err := c.pending(ctx, objects)
	if err != nil {
		return 0, err
	}
	if err := c.copy(ctx, todo); err != nil {
		return 0, err
	}
	_, err = c.source.Exec(ctx, "COMMIT")
	return objects[len(objects)-1].oid, err
}

// pending leaves out what is on the target as of an earlier call, and refuses what is there by
// someone else.
func (c *copier) pending(ctx context.Context, objects []object) ([]object, error) {
	rows, err := c.target.Query(ctx, `SELECT w.oid, l.oid IS NOT NULL FROM pg_catalog.unnest($1::oid[]) AS w(oid)
		LEFT JOIN crossfade.large_object l USING (oid) LEFT JOIN pg_catalog.pg_largeobject_metadata m USING (oid)
		WHERE l.oid IS NOT NULL OR m.oid IS NOT NULL`, lists.Map(objects, func(o object) uint32 { return o.oid }))
	if err != nil {
		return nil, fmt.Errorf("look for large objects on the target: %w", err)
	}
	ours := map[uint32]bool{}
	var oid uint32
	var our bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &our}, func() error {
		if !our {
			return fmt.Errorf("copy large object %d: %w; remove it there (SELECT lo_unlink(%d)) if nobody needs it", oid, ErrTaken, oid)
		}
		ours[oid] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.report.Objects += int64(len(ours))
	return lists.Filter(objects, func(o object) bool { return !ours[o.oid] }), nil
}

// copy writes objects in groups, each in one transaction of the target. A large
// object in its everyday sense is a group of its own.
func (c *copier) copy(ctx context.Context, todo []object) error {
	for len(todo) > 0 {
		n, first := min(len(todo), groupObjects), min(firstBytes, c.cfg.PieceBytes)
		pieces, err := c.read(ctx, todo[:n], first)
		if err != nil {
			return err
		}
		whole := 0
		for whole < n && len(pieces[whole]) < first {
			whole++
		}
		if whole == 0 {
			err, whole = c.writeLarge(ctx, &todo[0], pieces[0]), 1
		} else {
			err = c.writeGroup(ctx, todo[:whole], pieces[:whole])
		}
		if err != nil {
			return err
		}
		todo = todo[whole:]
	}
	return nil
}

// read returns the first piece of each object, in one round trip.
func (c *copier) read(ctx context.Context, objects []object, length int) ([][]byte, error) {
	batch := &pgx.Batch{}
	pieces := make([][]byte, len(objects))
	for i, o := range objects {
		batch.Queue(`SELECT pg_catalog.lo_get($1, 0, $2)`, o.oid, length).QueryRow(func(row pgx.Row) error {
			return unreadable(o.oid, row.Scan(&pieces[i]))
		})
	}
	return pieces, c.source.SendBatch(ctx, batch).Close()
}

func unreadable(oid uint32, err error) error {
	if pg.IsCode(err, pg.CodeInsufficientPrivilege) {
		return fmt.Errorf("read large object %d: %w: GRANT SELECT ON LARGE OBJECT %d to the role of --source", oid, err, oid)
	}
	return pg.Wrap(err, "read large object %d", oid)
}

// writeGroup writes small objects, all in one round trip.
func (c *copier) writeGroup(ctx context.Context, objects []object, bytes [][]byte) error {
	var left Report
	size := int64(0)
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	for i, o := range objects {
		size += int64(len(bytes[i]))
		batch.Queue(`SELECT pg_catalog.lo_from_bytea($1, $2)`, o.oid, bytes[i])
		for _, sql := range o.properties(c.cfg, c.have, &left) {
			batch.Queue(sql)
		}
		batch.Queue(`INSERT INTO crossfade.large_object (oid) VALUES ($1)`, o.oid)
	}
	batch.Queue("COMMIT")
	if err := c.target.SendBatch(ctx, batch).Close(); err != nil {
		return c.unwritten(fmt.Sprintf("write large objects %d to %d", objects[0].oid, objects[len(objects)-1].oid), err)
	}
	c.wrote(int64(len(objects)), size, left)
	return nil
}

// writeLarge writes one object piece by piece, in one transaction.
func (c *copier) writeLarge(ctx context.Context, o *object, piece []byte) error {
	var left Report
	what := fmt.Sprintf("write large object %d", o.oid)
	tx, err := c.target.Begin(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	_, err = tx.Exec(ctx, `SELECT pg_catalog.lo_from_bytea($1, $2)`, o.oid, piece)
	size := int64(len(piece))
	for err == nil && len(piece) > 0 {
		err = unreadable(o.oid, c.source.QueryRow(ctx, `SELECT pg_catalog.lo_get($1, $2, $3)`, o.oid, size, c.cfg.PieceBytes).Scan(&piece))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `SELECT pg_catalog.lo_put($1, $2, $3)`, o.oid, size, piece)
		size += int64(len(piece))
	}
	for _, sql := range o.properties(c.cfg, c.have, &left) {
		if err == nil {
			_, err = tx.Exec(ctx, sql)
		}
	}
	if err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO crossfade.large_object (oid) VALUES ($1)`, o.oid)
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		return c.unwritten(what, err)
	}
	c.wrote(1, size, left)
	return nil
}

func (c *copier) wrote(objects, bytes int64, left Report) {
	c.report.Objects += objects
	c.report.Bytes += bytes
	c.report.OwnersLeft += left.OwnersLeft
	c.report.GrantsLeft += left.GrantsLeft
	if c.cfg.Progress != nil {
		c.cfg.Progress(c.report.Objects, c.report.Bytes)
	}
}

func (c *copier) unwritten(what string, err error) error {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if ok && pe.Code == pg.CodeUniqueViolation && pe.TableName == "pg_largeobject_metadata" {
		return fmt.Errorf("%s: %w: %w", what, ErrTaken, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// forgetPage bounds how many objects one transaction of Forget removes: each takes
// a lock of its own.
const forgetPage = 50

// Forget removes the objects that Copy made, and their records. It returns how
// many, and can be called again after an error.
func Forget(ctx context.Context, conn *pgx.Conn) (removed int, err error) {
	for {
		var n int
		err := conn.QueryRow(ctx, `WITH gone AS (
				DELETE FROM crossfade.large_object WHERE oid IN (SELECT oid FROM crossfade.large_object LIMIT $1) RETURNING oid)
			SELECT pg_catalog.count(*) + 0 * pg_catalog.count(pg_catalog.lo_unlink(m.oid))
			FROM gone LEFT JOIN pg_catalog.pg_largeobject_metadata m USING (oid)`, forgetPage).Scan(&n)
		if err != nil {
			return removed, fmt.Errorf("remove large objects from the target: %w", err)
		}
		if n == 0 {
			return removed, nil
		}
		removed += n
	}
}
