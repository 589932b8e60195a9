package copy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/copy/relay"
)

// A copy that is held takes no rows from the source, keeps what it has, and goes on where it was.
func TestLimiterHoldsTheCopy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL)
	// More than the buffers of two sockets and of the relay hold.
	pgtest.Exec(t, f.source, "INSERT INTO big SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 40000) i")
	cfg := f.config(false)
	cfg.Jobs, cfg.ChunkBytes = 1, 1<<30
	cfg.Limit = relay.NewLimiter(0)
	cfg.Limit.Pause(true)
	c := f.copier(cfg)
	done := make(chan error, 1)
	go func() { done <- c.Run(f.context()) }()
	eventually(t, func() bool {
		return pgtest.Value(t, f.source, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY %' AND wait_event = 'ClientWrite'`) == "1"
	})
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM crossfade.chunk"))
	cfg.Limit.SetRate(1 << 40)
	require.Empty(t, done, "a rate lifts no pause")
	cfg.Limit.Pause(false)
	require.NoError(t, <-done)
	require.Equal(t, "40000", pgtest.Value(t, f.target, "SELECT count(*) FROM big"))
	require.Zero(t, c.Progress().Retries)
}
