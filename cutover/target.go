package cutover

import "context"

// Target is the side that an epoch opens: the target of a forward cutover. It holds the decision register of its epochs.
//
// Prelock, ReleasePrelock, RehearseDecision and Decide are called one at a time; the other methods beside them.
type Target interface {
	// Prelock is that of Source. The applier's writes go on under it.
	Prelock(ctx context.Context, epoch int64, lost func(reason string)) error

	// ReleasePrelock is that of Source. The stream also has it called when it meets TRUNCATE or DDL (C21).
	ReleasePrelock(ctx context.Context) error

	// RehearseDecision runs the whole of Decide and rolls it back (C16).
	RehearseDecision(ctx context.Context, in DecisionInput) error

	// Decide is the decision (C16): one transaction that inserts 'commit' for the epoch into the register, closes the
	// lane's progress row, sets sequences, makes foreign keys and triggers, and opens this side's fence. Whatever the
	// outcome, the pre-lock is not held when it returns. An error that is or wraps ErrOutcomeUnknown leaves it open
	// whether it was committed; after any other it was certainly rolled back; the register is asked after either.
	// The port passes failpoint PointBeforeDecisionCommit before its COMMIT.
	Decide(ctx context.Context, in DecisionInput) error

	// Decision reads the register: VerdictAbsent where it has no row for the epoch. It opens a new connection where the
	// old one is lost. Epoch 0 asks for the newest commit of this side, and is asked only where there is no way back.
	Decision(ctx context.Context, epoch int64) (Decision, error)

	// Reject inserts 'abort' for the epoch where there is no row, waiting for an insert in flight, and returns what the
	// register says then, committed: VerdictAbort or VerdictCommit.
	Reject(ctx context.Context, epoch int64) (Decision, error)

	// Fingerprint is that of Source.
	Fingerprint(ctx context.Context) (Fingerprint, error)

	// Complete does what was deferred: foreign keys validated, those of partitioned roots attached, the closed side made
	// passive. It runs in the background of the switched traffic, may be called again, and does what is missing.
	Complete(ctx context.Context, epoch int64) error
}

// DecisionInput is what the decision needs of the other side.
type DecisionInput struct {
	Epoch     int64
	Direction Direction
	Nonce     string // of the marker; empty in a rehearsal
	Sequences []Sequence
}

// Decision is a row of the register, or none.
type Decision struct {
	Epoch   int64
	Verdict Verdict // VerdictAbsent, VerdictCommit or VerdictAbort
}
