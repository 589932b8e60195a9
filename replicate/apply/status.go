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
	"crossfade/replicate/progress"
	"crossfade/replicate/stream"
)

// Status is a Follower's position at one moment.
type Status struct {
	SourceConnected bool
	TargetConnected bool
	Away            string // SideSource or SideTarget: the one whose loss ended the last session; "" while there is one
	AppliedLSN      pg.LSN // end of the last transaction committed on the target
	DurableLSN      pg.LSN // the part of it that a crash does not undo, and that the slot is told
	SourceLSN       pg.LSN // the source's end of WAL as last heard; 0 if not yet
	LagBytes        int64  // from AppliedLSN to SourceLSN
	LagMS           int64  // age of what is applied, by heartbeats and our own clock; -1 if not yet known
	CommitTime      time.Time
	Transactions    uint64 // applied by this Follower
	Changes         uint64 // rows and messages of them
	Batches         uint64 // target transactions
	Statements      uint64 // of batches, after merging
	Replays         uint64 // batches that were replayed row by row
	Tripped         bool
	Alarm           *Alarm      // the last one
	LastError       string      // of the last interruption; "" if there was none since the last commit
	Waiting         error       // the same, where someone has to make room on the target; nil for nothing
	Contended       *Contention // nil while no lock is waited for
}

// Contention is a wait for a lock that other sessions hold on the target. It has reached its bound
// at least once and continues. The holders can be found by the server process that waits.
type Contention struct {
	PID   int32     // of the server process on the target that asks for the lock
	Since time.Time // when it began to
	Err   error     // of the last try
}

// The sides of a Follower, as Status names them.
const (
	SideSource = "source"
	SideTarget = "target"
)

// state is what Status tells, guarded by Follower.mu.
type state struct {
	status Status
	reader *stream.Reader
	source pg.LSN    // end of WAL as the heartbeat's session saw it
	beat   time.Time // when the newest applied heartbeat was written
	lag    time.Duration
	told   bool // Away is of the present session, or of the attempt at one
}

// Status returns the position at this moment.
func (f *Follower) Status() Status {
	tripped := f.tripped()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state.status
	s.Tripped = tripped
	s.SourceLSN = f.state.source
	if r := f.state.reader; r != nil {
		if s.SourceConnected = r.Connected(); !s.SourceConnected && r.Lost() != "" {
			s.Away, s.LastError = SideSource, r.Lost()
		}
		s.SourceLSN = max(s.SourceLSN, r.ServerEnd())
	}
	if s.SourceLSN > s.AppliedLSN {
		s.LagBytes = int64(s.SourceLSN - s.AppliedLSN)
	}
	s.LagMS = -1
	if !f.state.beat.IsZero() {
		// A heartbeat that is overdue says at least so much.
		overdue := time.Since(f.state.beat) - f.cfg.Heartbeat
		s.LagMS = max(f.state.lag, overdue, 0).Milliseconds()
	}
	return s
}

// change changes what Status tells.
func (f *Follower) change(how func(*state)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how(&f.state)
}

func (f *Follower) opened(r *stream.Reader, row progress.Row) {
	f.change(func(s *state) {
		s.reader = r
		s.status.TargetConnected, s.status.Away = true, ""
		s.status.AppliedLSN, s.status.DurableLSN, s.status.CommitTime = row.EndLSN, row.EndLSN, row.CommitTime
	})
}

// lost records which side ended a session by an error; the first report counts.
func (f *Follower) lost(side string, err error) error {
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.state.told {
			f.state.status.Away, f.state.told = side, true
		}
	}
	return err
}

func (f *Follower) interrupted(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.reader, f.state.status.TargetConnected = nil, false
	f.state.status.Contended = nil
	if err != nil {
		f.state.status.LastError, f.state.status.Waiting = err.Error(), nil
		if pg.IsCode(err, pg.CodeDiskFull) {
			f.state.status.Waiting = err
		}
	}
}

func (f *Follower) ended(err error) {
	f.trip.mu.Lock()
	defer f.trip.mu.Unlock()
	f.trip.ended, f.trip.err = true, err
	f.trip.wake()
}

func (f *Follower) noteApplied(to pg.LSN, at time.Time, durable pg.LSN) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.state.status
	s.AppliedLSN, s.DurableLSN, s.LastError, s.Waiting = to, durable, "", nil
	if !at.IsZero() {
		s.CommitTime = at
	}
	s.Batches++
}

// notePart notes a part that was applied, or is within an open transaction.
func (f *Follower) notePart(p *stream.Part) {
	f.noteAfterMarker(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.state.status
	s.Changes += uint64(len(p.Changes))
	if p.Last {
		s.Transactions++
	}
	for i := range p.Changes {
		if us, err := strconv.ParseInt(beatOf(&p.Changes[i]), 10, 64); err == nil {
			f.state.beat = time.UnixMicro(us)
			f.state.lag = time.Since(f.state.beat)
		}
	}
}

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
	tick := time.NewTicker(f.cfg.Heartbeat)
	defer tick.Stop()
	for beats := 0; ; beats++ {
		if err := f.beatOnce(ctx, conn, major); err != nil {
			if beats > 0 && ctx.Err() == nil {
				f.log.Warn().Err(err).Msg("heartbeat interrupted")
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-f.beatNow:
		}
	}
}

func (f *Follower) beatOnce(ctx context.Context, conn *pgx.Conn, major int) error {
	ctx, cancel := context.WithTimeout(ctx, beatLimit)
	defer cancel()
	if _, err := conn.Exec(ctx, beatSQL(major), heartbeatPrefix, strconv.FormatInt(time.Now().UnixMicro(), 10)); err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	var lsn pg.LSN
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_lsn()::text`).Scan(&lsn); err != nil {
		return fmt.Errorf("read the source's position: %w", err)
	}
	f.change(func(s *state) { s.source = max(s.source, lsn) })
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
