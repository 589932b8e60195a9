package cutover

import "context"

// Record is the journal's row of a run, as far as the machine needs it.
type Record struct {
	Epoch     int64
	Direction Direction
	Step      StepName
}

// Claim is the beginning of an epoch.
type Claim struct {
	Epoch     int64 // the row must show the one before
	Direction Direction
}

// Change is one compare-and-set of the step within an epoch.
type Change struct {
	Epoch     int64
	Direction Direction
	From, To  StepName
}

// Journal is the run row on the source, crossfade.run. Everything here commits synchronously before it returns.
//
// The row has an owner token. Every write of this port, and the compare-and-sets inside of Source.Fence and
// Source.Unfence, carry the token of the last Take and miss (ErrConflict) when the row holds another one.
type Journal interface {
	// Take puts a fresh owner token into the row and returns what the row says. It waits for writers of the row that are
	// in flight. After it returned, no write begun before it can succeed any more: that is what makes it safe to act
	// on what it returned.
	Take(ctx context.Context) (Record, error)

	// Claim sets epoch, direction and step "arming" where the epoch is the one before and the step is one at rest.
	// ErrConflict if not; ErrOutcomeUnknown where the commit is in doubt.
	Claim(ctx context.Context, c Claim) error

	// Persist sets the step where epoch and step are as given. ErrConflict if not; ErrOutcomeUnknown where the commit is
	// in doubt.
	Persist(ctx context.Context, c Change) error
}
