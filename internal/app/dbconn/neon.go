package dbconn

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// IsNeon reports whether a database says of itself that it is on Neon.
func IsNeon(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var endpoint string
	if err := conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.current_setting('neon.endpoint_id', true), '')`).Scan(&endpoint); err != nil {
		return false, fmt.Errorf("ask whether the target is on Neon: %w", err)
	}
	return endpoint != "", nil
}
