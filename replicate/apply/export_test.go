package apply

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Beat writes one heartbeat as a source of that major version gets it.
func (f *Follower) Beat(ctx context.Context, conn *pgx.Conn, major int) error {
	return f.beatOnce(ctx, conn, major)
}
