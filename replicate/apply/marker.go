package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// keptMarkers bounds how many applied markers are remembered for those who ask late.
const keptMarkers = 64

// tripwire is whether anything may be applied: not after the marker, and not while a freeze stands
// still. Its mutex is its own and nothing is called under it.
type tripwire struct {
	mu       sync.Mutex
	expected map[string]bool   // nonces that trip
	applied  map[string]pg.LSN // nonces whose transaction is applied
	order    []string          // of applied, oldest first
	tripped  bool
	latest   string        // last marker applied
	since    *Alarm        // first foreign transaction applied after it
	changed  chan struct{} // closed at every change
	freeze   *freeze       // asked for and not over; nil for none
	ended    bool
	err      error // that Run ended with
}

func (w *tripwire) init() {
	w.expected, w.applied = map[string]bool{}, map[string]pg.LSN{}
	w.changed = make(chan struct{})
}

// wake tells all who wait; w.mu is held.
func (w *tripwire) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Expect announces a marker. When it is applied, nothing after it is applied
// until Continue. Call it before the marker is written, so that not even one
// transaction can slip through between; WaitMarker calls it too.
func (f *Follower) Expect(nonce string) {
	f.trip.mu.Lock()
	defer f.trip.mu.Unlock()
	f.trip.expected[nonce] = true
}

// WaitMarker returns when the transaction with the marker of this nonce is applied and durable on
// the target, and with it everything that committed before it on the source. From then on nothing
// is applied until Continue. It returns the end of that transaction. It fails when ctx ends, and
// when Run has ended.
func (f *Follower) WaitMarker(ctx context.Context, nonce string) (pg.LSN, error) {
	f.Expect(nonce) // once: a Continue meanwhile must not be undone
	w := &f.trip
	for {
		w.mu.Lock()
		lsn, ok := w.applied[nonce]
		changed, ended, err := w.changed, w.ended, w.err
		var late *Alarm
		if ok && !w.tripped && w.latest == nonce {
			// It was not expected when it came.
			w.tripped, late = true, w.since
			w.wake()
		}
		w.mu.Unlock()
		switch {
		case ok:
			f.alarm(late)
			return lsn, nil
		case ended:
			return 0, fmt.Errorf("wait for marker %s: following ended: %w", nonce, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for marker %s: %w", nonce, context.Cause(ctx))
		}
	}
}

// Continue applies again, after an abort: all that was held back, in order, and
// what follows. Markers that were announced before no longer stop anything.
func (f *Follower) Continue() {
	w := &f.trip
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tripped, w.latest, w.since = false, "", nil
	clear(w.expected)
	w.wake()
}

func (f *Follower) tripped() bool {
	f.trip.mu.Lock()
	defer f.trip.mu.Unlock()
	return f.trip.tripped
}

func (f *Follower) changed() <-chan struct{} {
	f.trip.mu.Lock()
	defer f.trip.mu.Unlock()
	return f.trip.changed
}

// markerApplied is called after the synchronous commit of the marker's
// transaction, before anything else is applied.
func (f *Follower) markerApplied(nonce string, lsn pg.LSN) {
	w := &f.trip
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.applied[nonce] = lsn; !slices.Contains(w.order, nonce) {
		w.order = append(w.order, nonce)
	}
	if len(w.order) > keptMarkers {
		delete(w.applied, w.order[0])
		w.order = w.order[1:]
	}
	w.latest, w.since = nonce, nil
	if w.expected[nonce] {
		delete(w.expected, nonce)
		w.tripped = true
	}
	w.wake()
	f.log.Info().Str(obs.KeyLSN, lsn.String()).Bool("tripped", w.tripped).Msg("marker applied")
}

// alarmOf returns the alarm that a part gives when it comes after the marker.
func alarmOf(p *stream.Part) *Alarm {
	if p.Own {
		return nil
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		rels := c.Relations
		if c.Relation != nil {
			rels = []*stream.Relation{c.Relation}
		}
		for _, r := range rels {
			if r.Name.Schema != ownSchema {
				return &Alarm{XID: p.XID, LSN: p.CommitLSN, Relation: r.Name.Display()}
			}
		}
	}
	return nil
}

func (f *Follower) alarm(a *Alarm) {
	if a == nil {
		return
	}
	f.log.Error().Uint32("xid", a.XID).Str(obs.KeyLSN, a.LSN.String()).Str(obs.KeyRelation, a.Relation).
		Msg("source changed after the marker")
	f.change(func(s *state) { s.status.Alarm = a })
	if f.cfg.OnAlarm != nil {
		f.cfg.OnAlarm(*a)
	}
}

// noteAfterMarker checks a part that was applied, since a marker that was not expected may precede
// it.
func (f *Follower) noteAfterMarker(p *stream.Part) {
	w := &f.trip
	w.mu.Lock()
	var now *Alarm
	if w.latest != "" && (w.since == nil || w.tripped) {
		if a := alarmOf(p); a != nil {
			if w.since == nil {
				w.since = a
			}
			if w.tripped {
				now = a
			}
		}
	}
	w.mu.Unlock()
	f.alarm(now)
}

// hold keeps back what arrives while the wire is tripped, and reports it. The
// Reader's bound on memory holds for it.
func (s *session) hold(ctx context.Context) error {
	var reported pg.LSN
	report := func(p *stream.Part) {
		if a := alarmOf(p); a != nil && a.LSN != reported {
			reported = a.LSN
			s.alarm(a)
		}
	}
	for _, p := range s.held {
		report(p)
	}
	for {
		changed := s.changed()
		if !s.tripped() {
			return nil
		}
		select {
		case p := <-s.reader.Parts():
			if !s.seen(p) || p.Void || p.Idle != 0 {
				report(p)
			}
			s.held = append(s.held, p)
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// markerRow returns what the row says that a change puts into crossfade.marker, which
// sources older than 14 have instead of messages, and "" for any other change.
func markerRow(c *stream.Change) string {
	if c.Kind != stream.KindInsert && c.Kind != stream.KindUpdate || c.Relation.Name.Schema != ownSchema || c.Relation.Name.Name != "marker" {
		return ""
	}
	for n, col := range c.Relation.Columns {
		if col.Name == "nonce" {
			return string(c.NewTuple[n].Data)
		}
	}
	return ""
}

// markers returns the nonces of the markers in a part: of messages, and of rows.
func markers(p *stream.Part) []string {
	var nonces []string
	for i := range p.Changes {
		c := &p.Changes[i]
		switch {
		case c.Kind == stream.KindMessage && c.Prefix == MarkerPrefix:
			nonces = append(nonces, string(c.Content))
		default:
			if nonce := markerRow(c); nonce != "" && !strings.HasPrefix(nonce, stream.OwnPrefix) {
				nonces = append(nonces, nonce)
			}
		}
	}
	return nonces
}

// Tripwire reads the stream of a source whose lane a decision has closed, or has not opened yet. It
// applies nothing: every transaction after the marker with changes that does not begin
// with a message of ours is an alarm (C17), and all that was read is confirmed, so that
// the source keeps no WAL for it and can be shut down.
type Tripwire struct{ cfg Config }

// OpenedError says that a decision has opened the source again: nothing from it on was confirmed.
type OpenedError struct {
	Nonce string // of the decision's marker
	LSN   pg.LSN // of its commit record
}

func (e *OpenedError) Error() string {
	return fmt.Sprintf("a decision at %s has opened the side that was closed", e.LSN)
}

// NewTripwire takes the Config of a Follower, and uses only what concerns the source, and OnAlarm.
func NewTripwire(cfg Config) (*Tripwire, error) {
	if cfg.OnAlarm == nil {
		return nil, errors.New("apply: a tripwire without an alarm")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Tripwire{cfg: cfg}, nil
}

// Run reads from start, which is no earlier than what the slot has confirmed, until ctx ends, the
// slot cannot be read any more, or a decision opens the source, which is an *OpenedError: the first
// transaction after the marker that has a marker itself. marker is where the marker's transaction ended. Transactions before
// it raise no alarm: after a crash the source has an older position of the slot than the one it was
// told, and sends again what was applied long ago. OnAlarm is called on Run's goroutine.
func (t *Tripwire) Run(ctx context.Context, start, marker pg.LSN) error {
	reader, err := stream.NewReader(t.cfg.stream(max(start, marker)))
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return reader.Run(ctx) })
	group.Go(func() error {
		var reported pg.LSN
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case p := <-reader.Parts():
				if found := markers(p); len(found) > 0 && p.CommitLSN >= marker {
					return &OpenedError{Nonce: found[0], LSN: p.CommitLSN}
				}
				if a := alarmSince(p, marker); a != nil && a.LSN != reported {
					reported = a.LSN
					t.cfg.OnAlarm(*a)
				}
				if p.Idle != 0 {
					reader.Confirm(p.Idle)
				} else if p.Last {
					reader.Confirm(p.EndLSN)
				}
				p.Release()
			}
		}
	})
	return group.Wait()
}

// alarmSince is alarmOf for a transaction that ended at the marker or later.
func alarmSince(p *stream.Part, marker pg.LSN) *Alarm {
	if a := alarmOf(p); a != nil && a.LSN >= marker {
		return a
	}
	return nil
}
