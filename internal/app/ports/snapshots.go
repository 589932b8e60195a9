package ports

import (
	"context"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/verify"
)

// Prepare implements cutover.Verification.
func (v *Verification) Prepare(ctx context.Context) error {
	if err := v.Discard(ctx); err != nil {
		return err
	}
	if v.GiveWay != nil {
		if err := v.GiveWay(ctx); err != nil {
			return err
		}
	}
	var ready [2]*pgx.Conn
	both, ctx := errgroup.WithContext(ctx)
	for side := range ready {
		both.Go(func() (err error) {
			ready[side], err = v.connect(ctx, side)
			return err
		})
	}
	err := both.Wait()
	v.mu.Lock()
	v.ready = ready
	v.mu.Unlock()
	if err != nil {
		v.closeReady()
	}
	return err
}

// connect opens a session to the source, 0, or the target, 1.
func (v *Verification) connect(ctx context.Context, side int) (*pgx.Conn, error) {
	return pg.Connect(ctx, []pg.DSN{v.Source, v.Target}[side], pg.WithName("verify"))
}

// takeReady returns the session of a side that Prepare opened, nil where there is none that lives.
func (v *Verification) takeReady(side int) *pgx.Conn {
	v.mu.Lock()
	conn := v.ready[side]
	v.ready[side] = nil
	v.mu.Unlock()
	if conn == nil || pg.Quiet(conn.PgConn().Conn()) {
		return conn
	}
	dbconn.CloseNow(conn)
	return nil
}

func (v *Verification) closeReady() {
	for side := range v.ready {
		dbconn.CloseNow(v.takeReady(side))
	}
}

// Open implements cutover.Verification.
func (v *Verification) Open(ctx context.Context, _ int64) error {
	v.halt()
	v.forget()
	return v.freeze(ctx, false)
}

func (v *Verification) freeze(ctx context.Context, late bool) error {
	connect := func(side int) snapshot.Connect {
		return func(ctx context.Context) (*pgx.Conn, error) {
			if conn := v.takeReady(side); conn != nil {
				return conn, nil
			}
			return v.connect(ctx, side)
		}
	}
	v.mu.Lock()
	ready := v.ready != [2]*pgx.Conn{}
	v.mu.Unlock()
	f, err := verify.Freeze(ctx, connect(0), connect(1))
	if err != nil && ready && ctx.Err() == nil {
		f, err = verify.Freeze(ctx, connect(0), connect(1)) // one of those that were ready was dead
	}
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.frozen, v.late = f, late
	v.mu.Unlock()
	return nil
}

// Reopen opens snapshots before applications reach the target, where a start after the decision has
// none: then nothing was written yet that the comparison could not tell from what was lost. It does
// not keep the applications waiting for long, and not at all without source, which is away.
func (v *Verification) Reopen(ctx context.Context, epoch int64, source bool) {
	v.mu.Lock()
	has := v.frozen != nil || v.stop != nil
	v.mu.Unlock()
	if has {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reopenPatience)
	defer cancel()
	err := v.remember(ctx, epoch)
	if err == nil && source && !v.Ended() {
		err = v.freeze(ctx, true)
	}
	if err != nil {
		v.Log.Warn().Err(err).Msg("snapshots for the comparison were not opened before the applications; they are opened later")
	}
}
