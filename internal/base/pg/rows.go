package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Querier is a session or a transaction that reads rows.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Select returns the rows of a query; fields says where the columns of one go.
func Select[T any](ctx context.Context, q Querier, fields func(*T) []any, sql string, args ...any) ([]T, error) {
	rows, _ := q.Query(ctx, sql, args...)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (one T, err error) {
		err = row.Scan(fields(&one)...)
		return one, err
	})
}
