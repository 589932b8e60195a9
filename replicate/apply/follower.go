package apply

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/progress"
	"crossfade/replicate/stream"
)

// Follower applies the changes of one slot to the target; see the package
// comment. Run is called once; the other methods are safe for concurrent use.
type Follower struct {
	cfg Config
	log zerolog.Logger

	// Of the goroutine of Run only.
	owner   int64   // of our claim; 0 before it
	backend backend // of the last session on the target

	beatNow chan struct{} // holds one token when a heartbeat is wanted at once

	mu    sync.Mutex
	state state
	trip  tripwire
}

// backend names a server process of the target.
type backend struct {
	pid   int32
	start string
}

// NewFollower returns a Follower that has not connected yet.
func NewFollower(cfg Config) (*Follower, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	f := &Follower{cfg: cfg, log: obs.Component(cfg.Logger, "apply"), beatNow: make(chan struct{}, 1)}
	f.trip.init()
	return f, nil
}

// Run follows until ctx ends, whose error it returns then, or until an error
// that no new connection fixes: *DriftError, *RenamedError, *RowError, progress.ErrFenced,
// progress.ErrClosed, or what stream.Reader gives.
func (f *Follower) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := f.follow(ctx)
		f.ended(err)
		if err == nil {
			err = context.Canceled
		}
		return err
	})
	if f.cfg.Heartbeat > 0 {
		group.Go(func() error { return f.beat(ctx) })
	}
	return group.Wait()
}

// follow runs one session after another.
func (f *Follower) follow(ctx context.Context) error {
	policy := f.cfg.Retry
	policy.OnRetry = func(a retry.Attempt) {
		f.log.Warn().Err(a.Err).Int(obs.KeyAttempt, a.Number).Msg("following interrupted")
	}
	broken := func(err error) { f.log.Warn().Err(err).Msg("following interrupted") }
	return retry.Sessions(ctx, policy, broken, func(ctx context.Context) (bool, error) {
		before := f.Status().AppliedLSN
		err := f.session(ctx)
		f.interrupted(err)
		return f.Status().AppliedLSN > before, err
	})
}

// session is one connection to the target, with one Reader.
func (f *Follower) session(ctx context.Context) error {
	f.change(func(s *state) { s.told = false })
	s, err := f.open(ctx)
	if err != nil {
		return final(f.lost(SideTarget, err))
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.x.conn.Close(closing)
	}()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.lost(SideSource, s.reader.Run(ctx)) })
	group.Go(func() error { return f.lost(SideTarget, final(s.loop(ctx))) })
	return group.Wait()
}

// open logs in to the target, claims the lane or proves that it is still ours,
// and makes durable what was applied, so that the Reader may report it.
func (f *Follower) open(ctx context.Context) (_ *session, err error) {
	conn, err := pg.Connect(ctx, f.cfg.Target, append([]pg.Option{pg.WithName("apply")}, f.cfg.TargetOptions...)...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	if err := f.endPredecessor(ctx, conn); err != nil {
		return nil, err
	}
	row, err := f.claim(ctx, conn)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, sessionSQL, strconv.FormatInt(f.cfg.LockTimeout.Milliseconds(), 10)); err != nil {
		return nil, err
	}
	if enter := f.cfg.Writes.Enter; enter != nil {
		if err := enter(ctx, conn); err != nil {
			return nil, err
		}
	}
	newest, err := f.newestXID(ctx)
	if err != nil {
		return nil, f.lost(SideSource, err)
	}
	reading := f.cfg.stream(row.EndLSN)
	reading.Behind = row.Since != ""
	reader, err := stream.NewReader(reading)
	if err != nil {
		return nil, err
	}
	f.opened(reader, row)
	var own *statement
	if f.cfg.Writes.Marked {
		own = &statement{sql: ownSQL(pg.ServerVersion(conn))}
	}
	return &session{
		Follower: f, x: &executor{conn: conn, shapes: map[shape]*statement{}, prepared: map[*statement]string{}},
		reader: reader, xids: xids{newest: newest}, applied: row.EndLSN, durable: row.EndLSN,
		since: row, own: own, synced: time.Now(), tables: map[*stream.Relation]target{}, roots: map[pg.Name]*table{},
	}, nil
}

// claim takes the lane, or in later sessions proves that we still have it. Both
// commit synchronously and so make durable what was committed before.
func (f *Follower) claim(ctx context.Context, conn progress.Querier) (progress.Row, error) {
	if _, err := conn.Exec(ctx, `SELECT pg_catalog.set_config('synchronous_commit', 'on', false)`); err != nil {
		return progress.Row{}, err
	}
	if f.owner == 0 {
		row, err := progress.Claim(ctx, conn, f.cfg.Lane, f.cfg.Start)
		if err == nil {
			f.owner = row.Owner
		}
		return row, err
	}
	row, err := progress.ReadLocked(ctx, conn, f.cfg.Lane)
	if err != nil {
		return row, err
	}
	return row, progress.Advance(ctx, conn, f.cfg.Lane, f.owner, row.EndLSN, row.EndLSN, time.Time{})
}

// endPredecessor ends the server process of our last session, should it still
// hold the progress row because the server has not noticed that we are gone.
func (f *Follower) endPredecessor(ctx context.Context, conn progress.Querier) error {
	if f.backend.pid != 0 {
		_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
			WHERE pid = $1 AND backend_start::text = $2`, f.backend.pid, f.backend.start)
		if err != nil && !pg.IsCode(err, pg.CodeInsufficientPrivilege) {
			return err
		}
	}
	return conn.QueryRow(ctx, `SELECT pid, backend_start::text FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()`).
		Scan(&f.backend.pid, &f.backend.start)
}

// ownSQL marks a transaction as ours. Servers older than 14 stream no messages: there it is the one
// row of crossfade.marker that begins with the prefix.
func ownSQL(version int) string {
	if version >= 140000 {
		return `SELECT pg_catalog.pg_logical_emit_message(true, '` + batchPrefix + `', '')`
	}
	return `WITH old AS (UPDATE crossfade.marker SET nonce = '` + batchPrefix + ` ' || pg_catalog.txid_current() WHERE pg_catalog.starts_with(nonce, '` + batchPrefix + `') RETURNING 1)
		INSERT INTO crossfade.marker (nonce) SELECT '` + batchPrefix + ` ' || pg_catalog.txid_current() WHERE NOT EXISTS (SELECT FROM old)`
}

// sessionSQL prepares a session for batches: no wait for the disk unless a batch asks for it,
// bounded waits for locks, and plans that use the index for each key, whatever the planner assumes
// of tables that were never analysed.
const sessionSQL = `SELECT pg_catalog.set_config(s.name, v.value, false)
	FROM (VALUES ('synchronous_commit', 'off'), ('lock_timeout', $1::text), ('plan_cache_mode', 'force_generic_plan'),
		('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_seqscan', 'off'),
		('max_parallel_workers_per_gather', '0')) AS v(name, value)
	JOIN pg_catalog.pg_settings s ON s.name = v.name`
