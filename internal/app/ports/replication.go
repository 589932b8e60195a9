package ports

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/apply"
	"crossfade/replicate/progress"
	"crossfade/replicate/slot"
	"crossfade/replicate/verify"
)

// Following is the forward stream as the rest of the daemon sees it, and
// cutover.Replication. It is safe for concurrent use.
type Following struct {
	trips chan cutover.Trip

	mu       sync.Mutex
	follower *apply.Follower // nil before the stream starts
	epoch    int64           // of the marker that is awaited
	reached  pg.LSN          // end of the marker's transaction, once applied
	told     pg.LSN          // commit of the last transaction that gave an alarm
	err      error           // why the stream ended, nil while it runs
	stop     context.CancelFunc
	done     chan struct{} // closed when the stream has ended
}

// tripQueue is how many alarms wait for the coordinator; more tell nothing new.
const tripQueue = 16

func NewFollowing() *Following { return &Following{trips: make(chan cutover.Trip, tripQueue)} }

// FollowingLag is how many bytes the stream may lag and still count as following rather than
// catching up: less than a second's worth of a busy source.
const FollowingLag = 1 << 20

// followingDelay is how old the newest applied heartbeat may be for the same; they
// come every second.
const followingDelay = 2 * time.Second

// ErrNotFollowing says that there is no stream.
var ErrNotFollowing = errors.New("the stream of changes does not run yet: wait until the phase is following")

func (f *Following) get() (*apply.Follower, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
		return nil, fmt.Errorf("the stream of changes has stopped: %w", f.err)
	case f.follower == nil:
		return nil, ErrNotFollowing
	}
	return f.follower, nil
}

// Stream returns the stream for a comparison of two sides of which one follows the other. It fails
// where there is none, or one that has lost a side.
func (f *Following) Stream() (verify.Stream, error) {
	follower, err := f.get()
	if err == nil {
		err = CutOff(follower.Status())
	}
	if err != nil {
		return nil, err
	}
	return follower, nil
}

// Run follows until ctx ends, until end is called, or until the lane was closed by
// a decision; none of these is an error.
func (f *Following) Run(ctx context.Context, cfg apply.Config) error {
	cfg.OnAlarm = f.alarm
	follower, err := apply.NewFollower(cfg)
	if err != nil {
		return err
	}
	ctx, ended := f.begin(ctx)
	defer ended()
	f.mu.Lock()
	f.follower, f.err = follower, nil
	f.mu.Unlock()
	err = follower.Run(ctx)
	if errors.Is(err, progress.ErrClosed) || ctx.Err() != nil {
		return nil
	}
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	return err
}

// Watch reads the stream of a source that a decision has closed, as a tripwire for writers after
// the fence (C17), until ctx ends or end is called. marker is where the marker's transaction ended.
func (f *Following) Watch(ctx context.Context, cfg apply.Config, epoch int64, start, marker pg.LSN) error {
	cfg.OnAlarm = f.alarm
	wire, err := apply.NewTripwire(cfg)
	if err != nil {
		return err
	}
	ctx, ended := f.begin(ctx)
	defer ended()
	f.mu.Lock()
	f.epoch = epoch
	f.mu.Unlock()
	if err = wire.Run(ctx, start, marker); ctx.Err() != nil {
		return nil
	}
	return err
}

// EndApplier stops the applier, but not a tripwire.
func (f *Following) EndApplier() {
	f.mu.Lock()
	running := f.follower != nil
	f.follower = nil
	f.mu.Unlock()
	if running {
		f.End()
	}
}

// begin enters what end stops.
func (f *Following) begin(ctx context.Context) (context.Context, func()) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	f.mu.Lock()
	f.stop, f.done = stop, done
	f.mu.Unlock()
	return ctx, func() {
		stop()
		close(done)
	}
}

// End stops the stream and waits for its end.
func (f *Following) End() {
	f.mu.Lock()
	stop, done := f.stop, f.done
	f.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// alarm tells the coordinator of a transaction, once: after a connection that was lost it
// comes again.
func (f *Following) alarm(a apply.Alarm) {
	f.mu.Lock()
	epoch, known := f.epoch, a.LSN <= f.told
	f.told = max(f.told, a.LSN)
	f.mu.Unlock()
	if known {
		return
	}
	select {
	case f.trips <- cutover.Trip{Epoch: epoch, Detail: fmt.Sprintf("transaction %d at %s changed %s", a.XID, a.LSN, a.Relation)}:
	default: // the coordinator has more than it needs
	}
}

// Expect announces the marker of an epoch before it is written.
func (f *Following) Expect(epoch int64, nonce string) error {
	follower, err := f.get()
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.epoch, f.reached, f.told = epoch, 0, 0
	f.mu.Unlock()
	follower.Expect(nonce)
	return nil
}

// CutOffError says that the stream has lost a side, and which where that is known.
type CutOffError struct {
	side string // apply.SideSource, apply.SideTarget or ""
	why  string
}

func (e *CutOffError) Error() string {
	switch {
	case e.side == "":
		return "the stream of changes is being connected to source and target"
	case e.why == "":
		return "the stream of changes is cut off from the " + e.side
	}
	return "the stream of changes is cut off from the " + e.side + ": " + e.why
}

func (e *CutOffError) Remedy() string {
	if e.side == "" {
		return "wait: it begins within seconds"
	}
	return "make the " + e.side + " reachable; the stream connects again by itself"
}

// CutOff says that the stream has lost a side: its lag then is that of the past, and
// no marker would arrive within a pause.
func CutOff(s apply.Status) error {
	switch {
	case s.SourceConnected && s.TargetConnected:
		return nil
	case s.Away != "":
		return &CutOffError{side: s.Away, why: s.LastError}
	}
	return &CutOffError{}
}

// Lag implements cutover.Replication. It gives a stream that lags for a moment, or is cut off, the
// time to catch up, since lag now is a longer pause later.
func (f *Following) Lag(ctx context.Context) (cutover.Lag, error) {
	follower, err := f.get()
	if err != nil {
		return cutover.Lag{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lagPatience)
	defer cancel()
	var lag cutover.Lag
	var cut error
	for range retry.Poll(ctx, dbconn.LockPoll) {
		s := follower.Status()
		lag = cutover.Lag{Bytes: s.LagBytes, Delay: time.Duration(max(0, s.LagMS)) * time.Millisecond}
		cut = CutOff(s)
		if cut == nil && lag.Bytes <= FollowingLag && lag.Delay <= followingDelay {
			return lag, nil
		}
	}
	return lag, cut
}

// WaitMarker implements cutover.Replication.
func (f *Following) WaitMarker(ctx context.Context, m cutover.Marker) error {
	follower, err := f.get()
	if err != nil {
		return err
	}
	lsn, err := follower.WaitMarker(ctx, m.Nonce)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.reached = lsn
	f.mu.Unlock()
	return nil
}

// MarkerEnd is where the marker's transaction ended.
func (f *Following) MarkerEnd() pg.LSN {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reached
}

// Continue implements cutover.Replication.
func (f *Following) Continue(context.Context, int64) error {
	if follower, err := f.get(); err == nil {
		follower.Continue()
	}
	return nil
}

// Tripped implements cutover.Replication.
func (f *Following) Tripped() <-chan cutover.Trip { return f.trips }

// Status returns the follower's position, and the error that stopped it.
func (f *Following) Status() (apply.Status, error) {
	follower, err := f.get()
	if follower == nil {
		return apply.Status{}, err
	}
	return follower.Status(), err
}

// ClosedAt returns where the decision has closed the lane: the end of the marker's
// transaction, which outlives this process and the source's memory of the slot.
func ClosedAt(ctx context.Context, target *pgx.Conn) (pg.LSN, error) {
	row, err := progress.Read(ctx, target, Lane)
	if errors.Is(err, progress.ErrNoLane) {
		return 0, retry.Permanent(err)
	}
	return row.EndLSN, err
}

// RestFrom returns where reading continues after the applier: what the slot has confirmed, once the
// walsender of the applier has received its last report and has ended. After a crash of the source
// that is the position that it had on disk, which may be old.
func RestFrom(ctx context.Context, conn *pgx.Conn, name string) (pg.LSN, error) {
	var sender int32
	for range retry.PollFor(ctx, dbconn.LockPoll, senderPatience) {
		s, ok, err := slot.Get(ctx, conn, name)
		switch {
		case err != nil:
			return 0, err
		case !ok:
			return 0, retry.Permanent(errors.New("its replication slot is gone"))
		case !s.Active:
			return s.ConfirmedFlush, nil
		}
		sender = s.ActivePID
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return 0, fmt.Errorf("process %d of the source still streams from slot %s", sender, name)
}

// senderPatience is how long the walsender of the applier, which has ended, takes to go without
// anything being wrong.
const senderPatience = 5 * time.Second
