package apply

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/stream"
)

// beatLimit bounds one heartbeat, which takes a millisecond; a connection that
// is dead without saying so is found by it.
const beatLimit = 15 * time.Second

// beat writes heartbeats on the source until ctx ends, whose error it returns. Heartbeats tell the
// true lag, and move the slot of a quiet database. That they fail stops nothing.
func (f *Follower) beat(ctx context.Context) error {
	policy := f.cfg.Retry
	policy.OnRetry = func(a retry.Attempt) {
		f.log.Warn().Err(a.Err).Int(obs.KeyAttempt, a.Number).Msg("heartbeat interrupted")
	}
	for ctx.Err() == nil {
		// An error that no new connection fixes may be fixed by a person.
		_ = retry.Do(ctx, policy, f.beatSession)
	}
	return ctx.Err()
}

// beatSession writes heartbeats over one connection. It returns nil after a
// session in which some succeeded.
func (f *Follower) beatSession(ctx context.Context) error {
	conn, err := pg.Connect(ctx, f.cfg.Source, append([]pg.Option{pg.WithName("heartbeat")}, f.cfg.SourceOptions...)...)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var major int
	// A heartbeat must not wait for a standby.
	err = conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('server_version_num')::int / 10000
		FROM pg_catalog.set_config('synchronous_commit', 'local', false)`).Scan(&major)
	if err != nil {
		return fmt.Errorf("prepare heartbeat: %w", err)
	}
	beats := 0
	for range retry.Poll(ctx, f.cfg.Heartbeat) {
		if err := f.beatOnce(ctx, conn, major); err != nil {
			if beats > 0 && ctx.Err() == nil {
				f.log.Warn().Err(err).Msg("heartbeat interrupted")
				return nil
			}
			return err
		}
		beats++
	}
	return ctx.Err()
}

func (f *Follower) beatOnce(ctx context.Context, conn *pgx.Conn, major int) error {
	ctx, cancel := context.WithTimeout(ctx, beatLimit)
	defer cancel()
	if _, err := conn.Exec(ctx, beatSQL(major), heartbeatPrefix, strconv.FormatInt(time.Now().UnixMicro(), 10)); err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	var text string
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_lsn()::text`).Scan(&text); err != nil {
		return fmt.Errorf("read the source's position: %w", err)
	}
	lsn, err := pg.ParseLSN(text)
	if err != nil {
		return fmt.Errorf("read the source's position: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.source = max(f.state.source, lsn)
	return nil
}

// beatSQL writes a heartbeat. Sources older than 14 stream no messages: there it is
// the one row of crossfade.marker that begins with the prefix.
func beatSQL(major int) string {
	if major >= 14 {
		return `SELECT pg_catalog.pg_logical_emit_message(true, $1::text, $2::text)`
	}
	return `WITH old AS (UPDATE crossfade.marker SET nonce = $1::text || ' ' || $2::text WHERE pg_catalog.starts_with(nonce, $1::text) RETURNING 1)
		INSERT INTO crossfade.marker (nonce) SELECT $1::text || ' ' || $2::text WHERE NOT EXISTS (SELECT FROM old)`
}

// beatOf returns the heartbeat's time in a change, in microseconds, "" if it is none.
func beatOf(c *stream.Change) string {
	if c.Kind == stream.KindMessage {
		if c.Prefix == heartbeatPrefix {
			return string(c.Content)
		}
		return ""
	}
	us, ok := strings.CutPrefix(markerRow(c), heartbeatPrefix+" ")
	if !ok {
		return ""
	}
	return us
}
