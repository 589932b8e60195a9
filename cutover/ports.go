package cutover

import (
	"context"
	"fmt"
	"time"

	"crossfade/cutover/machine"
)

// The interfaces that the coordinator needs, and the values that their methods return; the
// composition root implements them.

// Claim is the beginning of an epoch.
type Claim struct {
	Epoch     int64 // the row must show the one before
	Direction machine.Direction
}

// Change is one compare-and-set of the step within an epoch.
type Change struct {
	Epoch     int64
	Direction machine.Direction
	From, To  machine.StepName
}

// Journal is the run rows of both databases, crossfade.run. An epoch is claimed and recorded in the
// row of the side that it closes, which is the active one; the decision writes it into the row of the
// side that it opens, in its own transaction. So the row of the active side always has the newest
// epoch. Everything here commits synchronously before it returns.
//
// A row has an owner token. Every write of this port, and the compare-and-sets inside of
// Source.Fence and Source.Unfence, carry the token of the last Take and miss (ErrConflict) when the
// row holds another one.
type Journal interface {
	// Take puts a fresh owner token into the rows and returns what they say: the row with the newer
	// epoch, or of the same one the closing side's. It waits for writers of the rows that are in
	// flight. After it has returned, no write begun before it can still succeed: this makes it safe
	// to act on what it returned. The row of the active side is enough, if it says by itself that
	// the side is active; without it Take fails.
	Take(ctx context.Context) (machine.Record, error)

	// Claim sets epoch, direction and step "arming" if the row has the previous epoch and a step at
	// rest. ErrConflict if not; ErrOutcomeUnknown if the commit is in doubt.
	Claim(ctx context.Context, c Claim) error

	// Persist sets the step if epoch and step are as given. ErrConflict if not; ErrOutcomeUnknown
	// if the commit is in doubt.
	Persist(ctx context.Context, c Change) error
}

// Traffic is the proxy. Its methods are called one at a time; a call is started before the previous
// one has returned only if that one ignored the end of its context for laneGrace.
type Traffic interface {
	// Stage captures every session at a boundary, replays it on its own warm server of the opening
	// side, captures it there and compares (C4). Sessions continue where they are. A further call
	// does what is still missing. An error names the session that cannot move, with the reason;
	// ErrHeld, wrapped, when that may pass. The policy holds for Pause and Restage of the same
	// epoch too.
	Stage(ctx context.Context, epoch int64, policy machine.StagePolicy) (StageReport, error)

	// Pause closes the gate and returns when every session is parked, no login is under way and no
	// COMMIT is without its answer. On any error the gate is open again; ErrDrainTimeout, wrapped
	// with the sessions that were in the way, when drain has passed; ErrHeld when one cannot be
	// moved yet and the policy is to wait.
	Pause(ctx context.Context, epoch int64, drain time.Duration) (sessions int, err error)

	// Restage, with the gate closed, captures the sessions again that sent a frame since, stages
	// new ones, and makes every LISTEN and takes every advisory lock of the difference. Under
	// UnmovableDisconnect it closes what cannot be moved.
	Restage(ctx context.Context, epoch int64) (StageReport, error)

	// Resume opens the gate towards the side that was active, and says how long clients were held
	// since it was closed. It is called only according to the journal (C18), also when the gate is
	// open already, and at the start.
	Resume(ctx context.Context, epoch int64) (Waits, error)

	// Switch changes the route and opens the gate towards a side. Differences are replayed by each
	// session's owner before its first statement is forwarded. It is repeated when it fails, and
	// also called at the start of a process for which the target is active.
	Switch(ctx context.Context, epoch int64, to machine.Side) (SwitchReport, error)

	// InspectSessions finds out, without staging anything, which sessions would not move.
	InspectSessions(ctx context.Context) (SessionsReport, error)

	// Discard drops the warm servers.
	Discard(ctx context.Context) error

	// Ended returns how many clients were ended in attempts since the process began, no matter what
	// ended them, and names those of the latest attempt. It does not wait.
	Ended() (total int, latest []string)
}

// SessionsReport says which sessions a cutover would find. Holding are those that cannot be moved
// now and may become movable, Red those that never can, each with its reason.
type SessionsReport struct {
	Sessions     int
	Holding, Red []string
}

// StageReport says how many sessions were staged.
type StageReport struct {
	Sessions     int
	Unmovable    []string // those that cannot be moved, each with its reason; not with UnmovableAbort
	Disconnected int      // how many of them were closed
}

// SwitchReport says what the move was like for the clients.
type SwitchReport struct {
	Moved int // sessions that are at the side that opens
	Held  Waits
}

// Waits says how long sessions were held: from the first byte held to the first byte forwarded
// again, to the new server where there is one.
type Waits struct {
	Sessions      int
	P50, P99, Max time.Duration
}

// Source is the side that an epoch closes: the source of a forward cutover.
//
// Prelock, ReleasePrelock, Expel, Fence and Unfence are called one at a time; the other methods
// concurrently with them. Every lock that a method asks for is bounded by --source-lock-timeout
// (C13).
type Source interface {
	// Census lists the sessions that write without the proxy, and counts the tables. With an error
	// it still returns what it has found.
	Census(ctx context.Context) (Census, error)

	// PrepareFence makes the disabled fence triggers on every table, root and leaf, that has none.
	// It may be called again.
	PrepareFence(ctx context.Context) (tables int, err error)

	// Prelock locks every table in SHARE UPDATE EXCLUSIVE in one session of its own. When someone
	// has waited on that longer than --source-lock-timeout, or when the session is lost, the port
	// releases the locks by itself and calls lost once, from any goroutine. A lock that is not
	// granted in time gives ErrLockTimeout.
	Prelock(ctx context.Context, epoch int64, lost func(reason string)) error

	// ReleasePrelock ends the pre-lock's transaction. Without one it does nothing. When the
	// rollback fails it closes the session, so that the locks end in any case.
	ReleasePrelock(ctx context.Context) error

	// Expel terminates the server connections of other incarnations of our proxies and waits for
	// them to be gone (C23).
	Expel(ctx context.Context, epoch int64) (int, error)

	// Fence is the fence transaction (C14), in the pre-lock's session where there is one: all
	// tables locked against writers, triggers enabled, the step set from "pausing" to "fenced" by
	// compare-and-set on epoch and owner token, the marker with the nonce emitted, committed
	// synchronously. Whatever the outcome, neither the locks nor the pre-lock are held when it
	// returns. ErrLockTimeout when rolled back for a lock, ErrConflict when the compare-and-set
	// missed, ErrOutcomeUnknown when the commit is in doubt. The port passes failpoint
	// PointBeforeFenceCommit before its COMMIT.
	Fence(ctx context.Context, epoch int64, nonce string) (FenceReport, error)

	// Unfence disables the fence triggers and sets the step to "idle" where epoch and owner token
	// are ours and the step is "fenced", "draining" or "deciding", in one transaction. ErrConflict,
	// ErrOutcomeUnknown as above. It never asks the register: it is called when that cannot hold a
	// commit for the epoch.
	Unfence(ctx context.Context, epoch int64) error

	// Sequences reads every sequence of the application: one that cannot be read is an error which
	// names it.
	Sequences(ctx context.Context) ([]Sequence, error)

	// Fingerprint reads the catalog (C20), without what is ours or deferred.
	Fingerprint(ctx context.Context) (machine.Fingerprint, error)
}

// Census is who is connected to the closing side without the proxy.
type Census struct {
	Tables int
	Bypass []Writer
	// Transactions are the open transactions of others, the longest first, in words: the pause
	// waits for those that come through the proxy, and the fence for those that do not.
	Transactions []string
	// RoundTrips are the times of an answer of the closing and of the opening side, 0 where one did
	// not come.
	RoundTrips [2]time.Duration
}

// Writer is a session that bypasses the proxy.
type Writer struct {
	PID                        int32
	User, Application, Address string
}

func (w Writer) String() string {
	return fmt.Sprintf("pid %d (user %s, application %q, address %s)", w.PID, w.User, w.Application, w.Address)
}

// FenceReport says what was fenced and where the marker is.
type FenceReport struct {
	Tables int
	LSN    string // of the marker's record, "0/16B3748"; empty where the port does not know it
}

// Sequence is the state of one sequence.
type Sequence struct {
	Schema, Name string
	LastValue    int64
	IsCalled     bool // false: LastValue is the next one handed out
}

// Target is the side that an epoch opens: the target of a forward cutover. It holds the decision
// register of its epochs.
//
// Prelock, ReleasePrelock, RehearseDecision and Decide are called one at a time; the other methods
// concurrently with them.
type Target interface {
	// Prelock is that of Source. The applier continues to write under it.
	Prelock(ctx context.Context, epoch int64, lost func(reason string)) error

	// ReleasePrelock is that of Source. It is also called when the stream meets TRUNCATE or DDL
	// (C21).
	ReleasePrelock(ctx context.Context) error

	// PrepareReverse makes what the way back from this side is read from, its publication and slot,
	// where they are missing, and says what is in the way (C22). From then on the slot is read.
	PrepareReverse(ctx context.Context) error

	// RehearseDecision runs the whole of Decide and rolls it back (C16).
	RehearseDecision(ctx context.Context, in DecisionInput) error

	// Decide is the decision (C16): one transaction that inserts 'commit' for the epoch into the
	// register, closes the lane's progress row, sets sequences, makes foreign keys and triggers,
	// and opens this side's fence. Whatever the outcome, the pre-lock is not held when it returns.
	// An error that is or wraps ErrOutcomeUnknown leaves it open whether it was committed; after
	// any other it was certainly rolled back; the register is asked after either. The port passes
	// failpoint PointBeforeDecisionCommit before its COMMIT.
	Decide(ctx context.Context, in DecisionInput) error

	// Decision reads the register: VerdictAbsent where it has no row for the epoch. It opens a new
	// connection where the old one is lost.
	Decision(ctx context.Context, epoch int64) (Decision, error)

	// Reject inserts 'abort' for the epoch where there is no row, waiting for an insert in flight,
	// and returns what the register says then, committed: VerdictAbort or VerdictCommit.
	Reject(ctx context.Context, epoch int64) (Decision, error)

	// Fingerprint is that of Source.
	Fingerprint(ctx context.Context) (machine.Fingerprint, error)

	// Complete does what was deferred: foreign keys validated, those of partitioned roots attached,
	// the closed side made passive. It runs in the background of the switched traffic, may be
	// called again, and does what is missing.
	Complete(ctx context.Context, epoch int64) error
}

// DecisionInput is what the decision needs of the other side.
type DecisionInput struct {
	Epoch     int64
	Direction machine.Direction
	Nonce     string // of the marker; empty in a rehearsal
	Sequences []Sequence
}

// Decision is a row of the register, or none.
type Decision struct {
	Epoch   int64
	Verdict machine.Verdict // VerdictAbsent, VerdictCommit or VerdictAbort
}

// Replication is the stream from the closing to the opening side. Its methods may be called
// concurrently.
type Replication interface {
	// Lag says how far the stream lags.
	Lag(ctx context.Context) (Lag, error)

	// WaitMarker returns when the transaction of the marker, and so everything before it, is
	// committed on the opening side (C15). From the marker on the stream applies nothing: what else
	// it reads goes to Tripped.
	WaitMarker(ctx context.Context, m Marker) error

	// Continue ends the wait at a marker whose fence was removed: the stream applies again. Without
	// a marker it does nothing.
	Continue(ctx context.Context, epoch int64) error

	// Tripped gives what the stream reads after a marker and is not ours (C17). It is never closed;
	// one reader.
	Tripped() <-chan Trip
}

// Marker names the message that proves the stream is drained.
type Marker struct {
	Epoch int64
	Nonce string
	LSN   string // a hint: where the fence said it is, or empty
}

// Lag is how far the stream lags.
type Lag struct {
	Bytes int64
	Delay time.Duration
}

// Trip is a transaction after the marker.
type Trip struct {
	Epoch  int64
	Detail string // transaction, LSN and table
}

// Verification is the proof that follows the switch (C19). Its methods are called one at a time,
// except for Status.
type Verification interface {
	// Prepare releases what an earlier attempt left, as Discard does, and opens the sessions that
	// Open needs, at a time when nothing waits for them. If it failed or was not called, Open opens
	// them.
	Prepare(ctx context.Context) error

	// Open opens a snapshot on each side, after the applied marker: two frozen equals.
	Open(ctx context.Context, epoch int64) error

	// Start begins to compare every table from the open snapshots, in the background, and returns
	// at once. If there are none, because a restart has lost them, it resumes the comparison where
	// the journal says that it was.
	Start(ctx context.Context, epoch int64) error

	// Discard releases the snapshots and ends a comparison that is under way. Without either it
	// does nothing.
	Discard(ctx context.Context) error

	// Status says how far the comparison is. It may be called at any time and does not block.
	Status() VerificationStatus
}

// VerificationStatus says how far the comparison is.
type VerificationStatus struct {
	State       string // "none", "running", "equal", "different", "not_provable"
	TablesDone  int
	TablesTotal int
	Differences int
}
