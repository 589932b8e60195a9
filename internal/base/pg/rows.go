package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Querier is a session or a transaction that reads rows.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Rows returns what read makes of each row of a query.
func Rows[T any](ctx context.Context, q Querier, read pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, _ := q.Query(ctx, sql, args...)
	return pgx.CollectRows(rows, read)
}

// Select returns the rows of a query; fields says where the columns of one go.
func Select[T any](ctx context.Context, q Querier, fields func(*T) []any, sql string, args ...any) ([]T, error) {
	return Rows(ctx, q, func(row pgx.CollectableRow) (one T, err error) {
		err = row.Scan(fields(&one)...)
		return one, err
	}, sql, args...)
}

// SelectMap is Select for rows of a key and its value. The map is never nil.
func SelectMap[K comparable, V any](ctx context.Context, q Querier, fields func(*K, *V) []any, sql string, args ...any) (map[K]V, error) {
	out := map[K]V{}
	_, err := Rows(ctx, q, func(row pgx.CollectableRow) (none struct{}, err error) {
		var key K
		var value V
		err = row.Scan(fields(&key, &value)...)
		out[key] = value
		return none, err
	}, sql, args...)
	return out, err
}
