package compare

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
)

// Meanwhile is what a comparison of two databases at rest that has found a difference says of what
// was done meanwhile.
func Meanwhile(ctx context.Context, from, to *pgx.Conn, during func()) error {
	r := &resting{from: from, to: to}
	if err := r.awaitRest(ctx); err != nil {
		return err
	}
	during()
	r.report.Outcome = control.Different
	return r.stillAtRest(ctx)
}
