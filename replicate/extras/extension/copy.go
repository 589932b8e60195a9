package extension

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// Config says what is copied, from where to where.
type Config struct {
	Source snapshot.Connect
	Target snapshot.Connect
	// Snapshot is what the rows are read under. It belongs to the caller. If nil,
	// they are read as they are.
	Snapshot *snapshot.Holder
	// Roles are the source's names of roles to the target's, for rows that name roles.
	Roles       map[string]string
	LockTimeout time.Duration // for locks on the source; zero means without a bound
	// Takes tells, by its number on the source, whether a table is copied; nil for all.
	Takes func(oid uint32) bool
}

// Copied is one table or sequence that had something of the user's.
type Copied struct {
	Table Table
	Rows  int64 // 0 for a sequence
}

// Copy copies what users keep in configuration tables. It may be repeated. A table
// that holds nothing of theirs is left alone, and need not be on the target.
func Copy(ctx context.Context, cfg Config) ([]Copied, error) {
	source, err := cfg.Source(ctx)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close(source)
	if cfg.Snapshot != nil {
		err = cfg.Snapshot.Begin(ctx, source, cfg.LockTimeout)
	} else {
		_, err = source.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
	}
	if err != nil {
		return nil, err
	}
	tables, err := Tables(ctx, source)
	if cfg.Takes != nil {
		tables = slices.DeleteFunc(tables, func(t Table) bool { return !cfg.Takes(t.OID) })
	}
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	target, err := cfg.Target(ctx)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close(target)
	tx, err := target.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	todo, err := wanted(ctx, source, target, tables)
	if err != nil {
		return nil, err
	}
	for _, t := range slices.Backward(todo) {
		if t.Sequence {
			continue
		}
		if _, err := target.Exec(ctx, t.remove()); err != nil {
			return nil, t.failed("write", err)
		}
	}
	var database string
	if err := target.QueryRow(ctx, `SELECT pg_catalog.current_database()::text`).Scan(&database); err != nil {
		return nil, err
	}
	var done []Copied
	for _, t := range todo {
		rows, err := t.translated(cfg.Roles, database).copy(ctx, source, target)
		if err != nil {
			return nil, err
		}
		done = append(done, Copied{Table: t, Rows: rows})
	}
	return done, tx.Commit(ctx)
}

// wanted returns the sequences, and the tables with rows of the user's on one side.
func wanted(ctx context.Context, source, target *pgx.Conn, tables []Table) ([]Table, error) {
	var todo []Table
	for _, t := range tables {
		if t.isJobs() {
			continue
		}
		var here, there, known bool
		err := target.QueryRow(ctx, `SELECT pg_catalog.to_regclass($1) IS NOT NULL`, t.Name.String()).Scan(&known)
		if err == nil && !t.Sequence {
			err = source.QueryRow(ctx, t.exists()).Scan(&here)
		}
		if err == nil && !t.Sequence && known {
			err = target.QueryRow(ctx, t.exists()).Scan(&there)
		}
		switch {
		case err != nil:
			return nil, t.failed("read", err)
		case here && !known:
			return nil, fmt.Errorf("copy rows of extension %s: the target has no table %s: bring the extension to the same version on both sides", t.Extension, t.Name.Display())
		case here || there || t.Sequence && known:
			todo = append(todo, t)
		}
	}
	return todo, nil
}

// copy brings one table's rows over, or sets a sequence.
func (t Table) copy(ctx context.Context, source, target *pgx.Conn) (int64, error) {
	if t.Sequence {
		var last int64
		var called bool
		err := source.QueryRow(ctx, fmt.Sprintf("SELECT last_value, is_called FROM %s", t.Name)).Scan(&last, &called)
		if err == nil {
			_, err = target.Exec(ctx, `SELECT pg_catalog.setval($1::regclass, $2, $3)`, t.Name.String(), last, called)
		}
		return 0, t.failed("set", err)
	}
	r, w := io.Pipe()
	read := make(chan error, 1)
	go func() {
		_, err := source.PgConn().CopyTo(ctx, w, t.out())
		_ = w.CloseWithError(err)
		read <- err
	}()
	tag, err := target.PgConn().CopyFrom(ctx, r, t.in())
	_ = r.CloseWithError(io.ErrClosedPipe)
	if sourceErr := <-read; sourceErr != nil && err == nil {
		err = sourceErr
	}
	return tag.RowsAffected(), t.failed("copy", err)
}

func (t Table) failed(verb string, err error) error {
	switch {
	case err == nil:
		return nil
	case pg.IsCode(err, pg.CodeInsufficientPrivilege):
		return fmt.Errorf("%s configuration of extension %s in %s: %w: GRANT the role of the connection SELECT on the source, and SELECT, INSERT and DELETE on the target", verb, t.Extension, t.Name.Display(), err)
	default:
		return fmt.Errorf("%s configuration of extension %s in %s: %w", verb, t.Extension, t.Name.Display(), err)
	}
}
