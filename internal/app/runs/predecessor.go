package runs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/base/journal"
)

// IncarnationLetters of an incarnation tell two starts of a run apart, 30 bits of them.
const IncarnationLetters = 6

// predecessorPatience is how long a start waits for the sessions of the one before it to end: a
// server ends one within milliseconds, unless it is within a long write.
const predecessorPatience = 10 * time.Second

// EndPredecessors ends what an earlier start has left in both databases. A nil session is of a side
// that is away.
func EndPredecessors(ctx context.Context, log zerolog.Logger, run, incarnation string, source, target *pgx.Conn) error {
	for i, conn := range []*pgx.Conn{source, target} {
		if conn == nil {
			continue
		}
		side := [2]string{"source", "target"}[i]
		n, err := journal.EndPredecessors(ctx, conn, run, incarnation, i == 1, predecessorPatience)
		if n > 0 {
			log.Info().Str("side", side).Int("sessions", n).Msg("sessions of an earlier start were ended")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", side, err)
		}
	}
	return nil
}
