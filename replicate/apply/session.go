package apply

import (
	"context"
	"slices"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/replicate/progress"
	"crossfade/replicate/stream"
)

// session applies what one Reader hands out over one connection. All of it is of one goroutine.
type session struct {
	*Follower
	x       *executor
	reader  *stream.Reader
	xids    xids
	tables  map[*stream.Relation]target
	roots   map[pg.Name]*table // that leaves are written through, by the last description that came
	held    []*stream.Part     // received while tripped
	applied pg.LSN             // committed on the target
	durable pg.LSN             // known to be still there after a crash of the target
	synced  time.Time          // when durable was last brought up
	own     *statement         // marks a transaction as ours; nil where none is marked
	since   progress.Row       // its Since is the nonce of the marker up to which everything is left out; "" once it was reached
}

// batch is consecutive transactions that one target transaction applies.
type batch struct {
	parts     []*stream.Part
	rows      int
	bytes     int64
	begun     time.Time
	truncates bool
	nonces    []string // of markers
}

func (b *batch) empty() bool { return len(b.parts) == 0 }

// end returns where the last transaction ends, and when it committed.
func (b *batch) end() (pg.LSN, time.Time) {
	last := b.parts[len(b.parts)-1]
	return last.EndLSN, last.Time
}

func (b *batch) add(p *stream.Part) {
	if b.empty() {
		b.begun = time.Now()
	}
	b.parts = append(b.parts, p)
	b.rows += len(p.Changes)
	b.bytes += p.Size
	b.truncates = b.truncates || truncates(p)
	b.nonces = append(b.nonces, markers(p)...)
}

func truncates(p *stream.Part) bool {
	return slices.ContainsFunc(p.Changes, func(c stream.Change) bool { return c.Kind == stream.KindTruncate })
}

// full reports whether the batch must be applied before it grows. A marker and
// a truncate are the last of their batch.
func (b *batch) full(c *Config) bool {
	return b.rows >= c.BatchRows || b.bytes >= c.BatchBytes || b.truncates || len(b.nonces) > 0 ||
		time.Since(b.begun) >= c.BatchAge
}

// loop gathers batches and applies them until ctx or the connection ends.
func (s *session) loop(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.DurableInterval)
	defer tick.Stop()
	var b batch
	for {
		changed := s.changed() // before the look at what may change
		if s.tripped() {
			if err := s.hold(ctx); err != nil {
				return err
			}
		}
		z := s.trip.freezing()
		if z != nil && !z.cutKnown() {
			if err := s.flush(ctx, &b); err != nil {
				return err
			}
			if err := s.stand(ctx, z, z.still, z.known); err != nil {
				return err
			}
			continue
		}
		p := s.poll()
		if p == nil && b.empty() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
				continue
			case <-tick.C:
				if err := s.bringUp(ctx); err != nil {
					return err
				}
				continue
			case p = <-s.reader.Parts():
			}
		}
		if p != nil && s.since.Since != "" {
			if err := s.leaveOut(ctx, p); err != nil {
				return err
			}
			continue
		}
		if z != nil && p != nil && s.beyond(p, z.cut) {
			s.held = slices.Insert(s.held, 0, p) // it is the next one after the freeze
			if err := s.flush(ctx, &b); err != nil {
				return err
			}
			if err := s.stand(ctx, z, z.reached, nil); err != nil {
				return err
			}
			continue
		}
		whole := p != nil && p.First && p.Last
		if p == nil || !whole || truncates(p) {
			if err := s.flush(ctx, &b); err != nil {
				return err
			}
		}
		if p == nil {
			continue
		}
		if !whole {
			if err := s.special(ctx, p); err != nil {
				return err
			}
			continue
		}
		if s.seen(p) {
			p.Release()
			continue
		}
		if b.add(p); b.full(&s.cfg) {
			if err := s.flush(ctx, &b); err != nil {
				return err
			}
		}
	}
}

// leaveOut takes a part of what comes before the marker from which on the lane is applied. The
// source may forget it, since the progress row says that it is never wanted; what bears no message
// of ours is an alarm. The marker's own transaction changes nothing that is moved.
func (s *session) leaveOut(ctx context.Context, p *stream.Part) error {
	defer p.Release()
	if p.Idle != 0 {
		s.reader.Confirm(p.Idle)
		return nil
	}
	if a := alarmOf(p); a != nil && !s.seen(p) {
		if a.LSN > s.since.SinceLSN { // the side was open by then
			return &MissedError{LSN: a.LSN, Since: s.since.SinceLSN}
		}
		s.alarm(a)
	}
	if !p.Last {
		return nil
	}
	if slices.Contains(markers(p), s.since.Since) {
		if err := progress.Arrive(ctx, s.x.conn, s.cfg.Lane, s.owner, s.since.Since, p.EndLSN); err != nil {
			return err
		}
		s.log.Info().Str(obs.KeyLSN, p.EndLSN.String()).Msg("what was written before the decision was left out; changes are applied from here on")
		s.since, s.applied, s.durable, s.synced = progress.Row{}, p.EndLSN, p.EndLSN, time.Now()
		s.noteApplied(p.EndLSN, p.Time, p.EndLSN)
	}
	s.reader.Confirm(p.EndLSN)
	return nil
}

// flush applies what a batch has gathered, and begins a new one.
func (s *session) flush(ctx context.Context, b *batch) error {
	if b.empty() {
		return nil
	}
	if err := s.apply(ctx, b); err != nil {
		return err
	}
	*b = batch{}
	return nil
}

// poll returns the next part if there is one at this moment.
func (s *session) poll() *stream.Part {
	if len(s.held) > 0 {
		p := s.held[0]
		s.held = s.held[1:]
		return p
	}
	select {
	case p := <-s.reader.Parts():
		return p
	default:
		return nil
	}
}

// next waits for the next part.
func (s *session) next(ctx context.Context) (*stream.Part, error) {
	if p := s.poll(); p != nil {
		return p, nil
	}
	select {
	case p := <-s.reader.Parts():
		return p, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// seen reports whether the transaction was applied before. A commit record that
// starts before the applied position also ends at or before it.
func (s *session) seen(p *stream.Part) bool { return p.CommitLSN < s.applied }

// special takes what is no whole transaction.
func (s *session) special(ctx context.Context, p *stream.Part) error {
	switch {
	case p.Idle != 0:
		p.Release()
		return s.moveIdle(ctx, p.Idle)
	case p.First:
		return s.large(ctx, p)
	default:
		// What comes after a large transaction that was seen, or the word that takes it back.
		p.Release()
		return nil
	}
}

// moveIdle records the position of a quiet source. Nothing is unapplied then,
// since parts come in order.
func (s *session) moveIdle(ctx context.Context, to pg.LSN) error {
	if to <= s.applied {
		return nil
	}
	return s.advance(ctx, to)
}

// bringUp makes durable what was committed without waiting for the disk.
func (s *session) bringUp(ctx context.Context) error {
	if s.durable == s.applied {
		return nil
	}
	return s.advance(ctx, s.applied)
}

// advance commits a position synchronously, without changes.
func (s *session) advance(ctx context.Context, to pg.LSN) error {
	return s.explain(ctx, s.retryOnLock(ctx, false, func() error { return s.transact(ctx, nil, to, time.Time{}, true, false) }))
}
