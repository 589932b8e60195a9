package apply

import (
	"context"
	"errors"
	"fmt"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// Cut is the place in the stream at which a snapshot of the source was taken: the exported snapshot
// of a new replication slot, with the slot's consistent point.
type Cut struct {
	Snapshot pg.Snapshot // sees exactly the transactions before the cut
	LSN      pg.LSN      // the commit record of every other transaction begins here or later
}

// ErrHeld says that a freeze was given up since a marker stopped the stream: a cutover is under way.
var ErrHeld = errors.New("the stream is stopped after the marker of a cutover")

// errFreezing says that another freeze is under way.
var errFreezing = errors.New("the stream is being frozen for another comparison")

// freeze is a request to stop at a cut. Its channels are closed once each, in this order, except
// that over may come at any time. A session that is lost leaves it to the next one.
type freeze struct {
	still   chan struct{} // nothing is being applied, nor will be before the cut is known
	known   chan struct{} // cut is set
	cut     Cut
	reached chan struct{} // everything before the cut is applied, and nothing of the rest
	over    chan struct{} // applying continues
}

// Freeze stops applying exactly at a cut, calls frozen while the target is in the state that the
// cut's snapshot shows of the source, and applies on. cut is called when nothing is being applied:
// a snapshot that is taken then is not older than what the target has. It may take as long as ctx
// allows, but all that while the stream stands still. When ctx ends, or an error comes from cut or
// frozen, the stream continues and that is the error. It fails with ErrHeld while the stream is
// stopped after a marker, and when Run has ended. One freeze at a time is possible; it does not
// write to the target. Where there are heartbeats, one is written once the cut is known, so that
// the cut is reached on a source that nobody writes to as well.
func (f *Follower) Freeze(ctx context.Context, cut func(context.Context) (Cut, error), frozen func(context.Context) error) error {
	z, err := f.trip.beginFreeze()
	if err != nil {
		return fmt.Errorf("freeze the stream: %w", err)
	}
	defer f.trip.endFreeze(z)
	if err := f.trip.awaitFreeze(ctx, z.still); err != nil {
		return fmt.Errorf("freeze the stream: wait for the transaction that is being applied: %w", err)
	}
	if z.cut, err = cut(ctx); err != nil {
		return err
	}
	close(z.known)
	select {
	case f.beatNow <- struct{}{}:
	default: // one is asked for already
	}
	if err := f.trip.awaitFreeze(ctx, z.reached); err != nil {
		return fmt.Errorf("freeze the stream: apply what comes before %s: %w", z.cut.LSN, err)
	}
	return frozen(ctx)
}

func (w *tripwire) beginFreeze() (*freeze, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
		return nil, fmt.Errorf("following ended: %w", w.err)
	case w.tripped:
		return nil, ErrHeld
	case w.freeze != nil:
		return nil, errFreezing
	}
	w.freeze = &freeze{still: make(chan struct{}), known: make(chan struct{}), reached: make(chan struct{}), over: make(chan struct{})}
	w.wake()
	return w.freeze, nil
}

func (w *tripwire) endFreeze(z *freeze) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(z.over)
	w.freeze = nil
	w.wake()
}

// awaitFreeze waits until a stage of a freeze is reached.
func (w *tripwire) awaitFreeze(ctx context.Context, stage <-chan struct{}) error {
	for {
		w.mu.Lock()
		changed, ended, tripped, err := w.changed, w.ended, w.tripped, w.err
		w.mu.Unlock()
		switch {
		case ended:
			return fmt.Errorf("following ended: %w", err)
		case tripped:
			return ErrHeld
		}
		select {
		case <-stage:
			return nil
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// freezing returns the freeze that was asked for and is not over, or nil.
func (w *tripwire) freezing() *freeze {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.freeze
}

// cutKnown reports whether the cut of a freeze is known.
func (z *freeze) cutKnown() bool {
	select {
	case <-z.known:
		return true
	default:
		return false
	}
}

// stand says that a stage is reached, and waits for the next one. Nothing is being applied.
func (s *session) stand(ctx context.Context, z *freeze, stage chan struct{}, next <-chan struct{}) error {
	select {
	case <-stage: // by the session before this one
	default:
		close(stage)
	}
	select {
	case <-next:
	case <-z.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// beyond reports whether a part comes after the cut, so that everything before the cut has been
// handed out. What a transaction belongs to is decided by its number (C7). The position alone
// decides where there is no transaction: all that the snapshot sees has ended before it.
func (s *session) beyond(p *stream.Part, c Cut) bool {
	if p.First {
		return !c.Snapshot.Visible(s.xids.widen(p.XID))
	}
	return p.Idle != 0 && p.Idle >= c.LSN
}
