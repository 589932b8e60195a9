package cutover

import "context"

// Verification is the proof that follows the switch (C19). Its methods are called one at a time, but for Status.
type Verification interface {
	// Open opens a snapshot on each side, behind the applied marker: two frozen equals.
	Open(ctx context.Context, epoch int64) error

	// Start begins to compare every table from the open snapshots, in the background, and returns at once. Where there are
	// none, since a restart has lost them, it takes the comparison up where the journal says that it was.
	Start(ctx context.Context, epoch int64) error

	// Discard lets go of snapshots and of a comparison that is under way. Without either it does nothing.
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
