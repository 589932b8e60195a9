package history

import (
	"context"
	"errors"
	"fmt"
)

// Invariant is something that holds in every state of the application's data.
type Invariant struct {
	Name string
	SQL  string // gives one row: whether it holds (boolean), and what is there (text)
}

func (iv Invariant) check(ctx context.Context, q Querier) (holds bool, detail string, err error) {
	rows, err := q.Query(ctx, iv.SQL)
	if err != nil {
		return false, "", fmt.Errorf("check invariant %q: %w", iv.Name, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return false, "", fmt.Errorf("check invariant %q: %w", iv.Name, err)
		}
		return false, "", fmt.Errorf("check invariant %q: %w", iv.Name, errors.New("the query gives no row"))
	}
	var h *bool
	if err := rows.Scan(&h, &detail); err != nil {
		return false, "", fmt.Errorf("check invariant %q: %w", iv.Name, err)
	}
	return h != nil && *h, detail, nil
}
