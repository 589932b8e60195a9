package apply

import (
	"strconv"
	"time"

	"crossfade/internal/base/pg"
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

func (f *Follower) opened(r *stream.Reader, row progress.Row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.reader = r
	f.state.status.TargetConnected, f.state.status.Away = true, ""
	f.state.status.AppliedLSN, f.state.status.DurableLSN = row.EndLSN, row.EndLSN
	f.state.status.CommitTime = row.CommitTime
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

// contended records a wait for a lock that continues or, with nil, that it has ended.
func (f *Follower) contended(c *Contention) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.status.Contended = c
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

func (f *Follower) noteBatch(steps []step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.status.Statements += uint64(len(steps))
}

func (f *Follower) noteReplay() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.status.Replays++
}

func (f *Follower) noteAlarm(a Alarm) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.status.Alarm = &a
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
