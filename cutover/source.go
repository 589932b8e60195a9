package cutover

import (
	"context"
	"fmt"
	"time"
)

// Source is the side that an epoch closes: the source of a forward cutover.
//
// Prelock, ReleasePrelock, Expel, Fence and Unfence are called one at a time; the other methods beside them. Every lock
// that a method asks for is bounded by --source-lock-timeout (C13).
type Source interface {
	// Census lists who writes without the proxy, and counts the tables. It gives what it has found beside an error too.
	Census(ctx context.Context) (Census, error)

	// PrepareFence makes the disabled fence triggers on every table, root and leaf, that has none. It may be called
	// again.
	PrepareFence(ctx context.Context) (FencePlan, error)

	// Prelock locks every table in SHARE UPDATE EXCLUSIVE in one session of its own. When someone has waited on that
	// longer than --source-lock-timeout, or when the session is lost, the port lets the locks go by itself and calls
	// lost once, from any goroutine. A lock that is not granted in time gives ErrLockTimeout.
	Prelock(ctx context.Context, epoch int64, lost func(reason string)) error

	// ReleasePrelock ends the pre-lock's transaction. Without one it does nothing. When the rollback fails it closes
	// the session, so that the locks end in any case.
	ReleasePrelock(ctx context.Context) error

	// Expel terminates the server connections of other incarnations of our proxies and waits for them to be gone (C23).
	Expel(ctx context.Context, epoch int64) (int, error)

	// Fence is the fence transaction (C14), in the pre-lock's session where there is one: all tables locked against
	// writers, triggers enabled, the step set from "pausing" to "fenced" by compare-and-set on epoch and owner token, the
	// marker with the nonce emitted, committed synchronously. Whatever the outcome, neither the locks nor the pre-lock
	// are held when it returns. ErrLockTimeout when rolled back for a lock, ErrConflict when the compare-and-set missed,
	// ErrOutcomeUnknown when the commit is in doubt. The port passes failpoint PointBeforeFenceCommit before its COMMIT.
	Fence(ctx context.Context, epoch int64, nonce string) (FenceReport, error)

	// Unfence disables the fence triggers and sets the step to "idle" where epoch and owner token are ours and the step
	// is "fenced", "draining" or "deciding", in one transaction. ErrConflict, ErrOutcomeUnknown as above. It never asks
	// the register: it is called when that cannot hold a commit for the epoch.
	Unfence(ctx context.Context, epoch int64) error

	// Sequences reads every sequence of the application: one that cannot be read is an error which names it.
	Sequences(ctx context.Context) ([]Sequence, error)

	// Fingerprint reads the catalog (C20), without what is ours or deferred.
	Fingerprint(ctx context.Context) (Fingerprint, error)
}

// Census is who is connected to the closing side without the proxy.
type Census struct {
	Tables int
	Bypass []Writer
	// Transactions are the open transactions of others, the longest first, in words: the pause waits for those that come
	// through the proxy, and the fence for those that do not.
	Transactions []string
	// RoundTrips are the times of an answer of the closing and of the opening side, 0 where one did not come.
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

// FencePlan says how many tables have a prepared fence.
type FencePlan struct{ Tables int }

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
