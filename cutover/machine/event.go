package machine

import "time"

// Event is what happens to the machine. The set is closed.
type Event interface{ event() }

// Result is an event that ends a call. It carries the generation of its phase; of another
// generation it is late, and a late result changes nothing.
type Result interface {
	Event
	Call() (Op, uint64)
}

// Class says what is known of a call that failed.
type Class uint8

const (
	ClassFailure      Class = iota // it failed and had no effect, or an effect that does not matter
	ClassTimeout                   // its bound passed: what it did is not known
	ClassUnknown                   // the connection was lost: what it did is not known
	ClassConflict                  // a compare-and-set found another state than ours
	ClassLockTimeout               // a lock was not granted in time; rolled back
	ClassHeld                      // sessions cannot be moved yet; the gate is open
	ClassDrainTimeout              // transactions did not end in time; the gate is open again
)

func (c Class) String() string {
	return [...]string{"failure", "timeout", "unknown", "conflict", "lock_timeout", "held", "drain_timeout"}[c]
}

// Verdict is what the decision register says about an epoch.
type Verdict string

const (
	VerdictUnknown Verdict = ""       // not asked
	VerdictAbsent  Verdict = "absent" // no row: the decision may still be in flight
	VerdictCommit  Verdict = "commit"
	VerdictAbort   Verdict = "abort"
)

type (
	// Started begins everything: the journal is read.
	Started struct{}

	// Requested asks for a cutover, a fallback, a rehearsal or a dry run.
	Requested struct {
		ID          uint64 // not 0
		Mode        Mode
		Direction   Direction
		Limits      Limits
		AllowBypass bool
		Unmovable   Unmovable
	}

	// Advanced asks for a step outside of an attempt to be recorded: catching_up, following,
	// finished.
	Advanced struct {
		ID uint64
		To StepName
	}

	// Stopped says that the coordinator is to end.
	Stopped struct{}

	// Withdrawn says that the request is no longer wanted. It is answered when the attempt has been
	// undone or, if the decision may have been taken, according to the decision.
	Withdrawn struct {
		ID     uint64
		Reason string
	}

	// TimerFired ends a timer.
	TimerFired struct {
		Timer Timer
		Gen   uint64
	}

	// LockLost says that a pre-lock was dropped by its port because someone waited on it too long,
	// or with its session.
	LockLost struct {
		Side   Side // role: SideSource is the closing side, SideTarget the opening side
		Gen    uint64
		Reason string
	}

	// LockWanted says that the applier meets TRUNCATE or DDL and waits for the pre-lock on the
	// opening side.
	LockWanted struct{}

	// Tripped says that something wrote the closing side after the marker.
	Tripped struct{ Detail string }

	// Done ends a call that gave nothing the machine decides on.
	Done struct {
		Op     Op
		Gen    uint64
		Detail string
	}

	// Failed ends a call without success.
	Failed struct {
		Op     Op
		Gen    uint64
		Class  Class
		Reason string
	}

	// Loaded ends OpTake: the journal's row is ours and says this.
	Loaded struct {
		Gen    uint64
		Record Record
	}

	// CensusTaken ends OpCensus.
	CensusTaken struct {
		Gen    uint64
		Bypass int
		Detail string
	}

	// LagRead ends OpLag.
	LagRead struct {
		Gen    uint64
		Bytes  int64
		Delay  time.Duration
		Detail string
	}

	// Fingerprinted ends OpFingerprintSource and OpFingerprintTarget. Detail says where the sides
	// differ, once both are known.
	Fingerprinted struct {
		Gen    uint64
		Side   Side
		Sum    string
		Detail string
	}

	// RegisterRead ends OpDecision and OpReject.
	RegisterRead struct {
		Op      Op
		Gen     uint64
		Epoch   int64
		Verdict Verdict
	}
)

func (Started) event()       {}
func (Requested) event()     {}
func (Advanced) event()      {}
func (Stopped) event()       {}
func (Withdrawn) event()     {}
func (TimerFired) event()    {}
func (LockLost) event()      {}
func (LockWanted) event()    {}
func (Tripped) event()       {}
func (Done) event()          {}
func (Failed) event()        {}
func (Loaded) event()        {}
func (CensusTaken) event()   {}
func (LagRead) event()       {}
func (Fingerprinted) event() {}
func (RegisterRead) event()  {}

func (e Done) Call() (Op, uint64)        { return e.Op, e.Gen }
func (e Failed) Call() (Op, uint64)      { return e.Op, e.Gen }
func (e Loaded) Call() (Op, uint64)      { return OpTake, e.Gen }
func (e CensusTaken) Call() (Op, uint64) { return OpCensus, e.Gen }
func (e LagRead) Call() (Op, uint64)     { return OpLag, e.Gen }
func (e Fingerprinted) Call() (Op, uint64) {
	if e.Side == SideTarget {
		return OpFingerprintTarget, e.Gen
	}
	return OpFingerprintSource, e.Gen
}
func (e RegisterRead) Call() (Op, uint64) { return e.Op, e.Gen }
