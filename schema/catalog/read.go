package catalog

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"crossfade/internal/base/pg"
)

// Read reads the catalog of the database that conn is connected to, in one repeatable-read
// transaction, or in the caller's where one is open, so that an imported snapshot is heeded. It
// takes no lock but pg_relation_size's short ACCESS SHARE on each table; the session's lock_timeout
// bounds it. The connection stays the caller's.
func Read(ctx context.Context, conn *pgx.Conn) (*Database, error) {
	r := reader{conn: conn, db: &Database{}}
	err := r.inTransaction(ctx, r.all)
	return r.db, pg.Wrap(err, "read catalog")
}

type reader struct {
	conn *pgx.Conn
	db   *Database
}

// pinnedPath makes the server qualify every name that it prints, and find
// every function and operator of the queries in pg_catalog.
const pinnedPath = `SELECT pg_catalog.set_config('search_path', '', true)`

func (r *reader) inTransaction(ctx context.Context, f func(context.Context) error) error {
	if r.conn.PgConn().TxStatus() == 'T' {
		var before string
		if err := r.conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('search_path')`).Scan(&before); err != nil {
			return err
		}
		if _, err := r.conn.Exec(ctx, pinnedPath); err != nil {
			return err
		}
		if err := f(ctx); err != nil {
			return err
		}
		_, err := r.conn.Exec(ctx, `SELECT pg_catalog.set_config('search_path', $1, true)`, before)
		return err
	}
	return pgx.BeginTxFunc(ctx, r.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, pinnedPath); err != nil {
			return err
		}
		return f(ctx)
	})
}

func (r *reader) all(ctx context.Context) error {
	for _, step := range []struct {
		name string
		read func(context.Context) error
	}{
		{"database", r.database},
		{"schemas", r.schemas},
		{"extensions", r.extensions},
		{"relations", r.relations},
		{"columns", r.columns},
		{"binary safety", r.binary},
		{"inheritance", r.inheritance},
		{"order of columns", r.order},
		{"partition keys", r.partitions},
		{"unique indexes", r.uniqueIndexes},
		{"sequences", r.sequences},
		{"foreign keys", r.foreignKeys},
		{"triggers", r.triggers},
		{"rules", r.rules},
		{"materialised views", r.matViews},
		{"publications", r.publications},
		{"subscriptions", r.subscriptions},
		{"invalid indexes", r.invalidIndexes},
		{"large objects", r.largeObjects},
	} {
		if err := step.read(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (r *reader) database(ctx context.Context) error {
	var version string
	err := r.conn.QueryRow(ctx, `SELECT pg_catalog.current_database()::text, pg_catalog.current_setting('server_version_num'),
		pg_catalog.current_setting('server_encoding')`).Scan(&r.db.Name, &version, &r.db.Encoding)
	if err != nil {
		return err
	}
	r.db.Version, err = strconv.Atoi(version)
	return err
}

func (r *reader) schemas(ctx context.Context) error {
	return list(ctx, r, &r.db.Schemas, itself, `SELECT n.nspname::text FROM pg_catalog.pg_namespace n WHERE `+UserSchema+` ORDER BY 1`)
}

// UserSchema is a condition on pg_namespace n: the schema may hold objects of
// the application. System schemas, Neon's own and ours may not.
const UserSchema = `(n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '` + OwnSchema + `', 'neon', 'neon_auth', 'neon_migration'))`

// each runs a query and hands over its rows.
func each(ctx context.Context, conn *pgx.Conn, sql string, args []any, f func(pgx.CollectableRow) error) error {
	rows, _ := conn.Query(ctx, sql, args...)
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// list runs a query and appends its rows; fields says where the columns of one go.
func list[T any](ctx context.Context, r *reader, to *[]T, fields func(*T) []any, sql string, args ...any) error {
	return each(ctx, r.conn, sql, args, func(row pgx.CollectableRow) error {
		var one T
		err := row.Scan(fields(&one)...)
		*to = append(*to, one)
		return err
	})
}

// itself is the one column of a row that is a single value.
func itself[T any](v *T) []any { return []any{v} }

// nameOf are the two columns of a name.
func nameOf(n *pg.Name) []any { return []any{&n.Schema, &n.Name} }

// letter reads a column of the type "char" that was cast to text; "" is 0.
type letter byte

// ScanText reads the letter.
func (l *letter) ScanText(v pgtype.Text) error {
	*l = 0
	if v.String != "" {
		*l = letter(v.String[0])
	}
	return nil
}
