package machine

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Stage is one entry of the script: a phase, and what is asked for when it is entered.
type Stage struct {
	Phase   Phase
	Calls   OpSet
	Records StepName // instead of calls: a step to be recorded
}

// Script is the order of an attempt. Its order is the protocol: see doc.go. Phases that are not in
// it (register, undo and the like) are reached by what happened, not by what is next.
type Script []Stage

// Protocol is the script that Step follows. It is never written.
var Protocol = Script{
	{Phase: PhaseClaim, Calls: Ops(OpClaim)},
	{Phase: PhaseSurvey, Calls: Ops(OpCensus, OpLag, OpSequences, OpFingerprintSource, OpFingerprintTarget)},
	{Phase: PhasePrepare, Calls: Ops(OpPrepareFence, OpPrepareSnapshots)},
	{Phase: PhaseRehearse, Calls: Ops(OpRehearseDecision)},
	{Phase: PhaseStage, Calls: Ops(OpStage)},
	{Phase: PhasePrelock, Calls: Ops(OpPrelockSource, OpPrelockTarget)},
	{Phase: PhaseRecordPausing, Records: Pausing},
	{Phase: PhasePause, Calls: Ops(OpPause)},
	{Phase: PhaseExpel, Calls: Ops(OpExpel)},
	{Phase: PhaseFence, Calls: Ops(OpFence)}, // records "fenced" in its own transaction
	{Phase: PhaseRecordDraining, Records: Draining},
	{Phase: PhaseMarker, Calls: Ops(OpWaitMarker)},
	{Phase: PhaseProve, Calls: Ops(OpSequences, OpFingerprintSource, OpFingerprintTarget, OpRestage, OpOpenSnapshots)},
	{Phase: PhaseRecordDeciding, Records: Deciding},
	{Phase: PhaseDecide, Calls: Ops(OpDecide)}, // the register's row is the record
	{Phase: PhaseRecordDecided, Records: Decided},
	{Phase: PhaseSwitch, Calls: Ops(OpSwitch)},
	{Phase: PhaseComplete, Calls: Ops(OpComplete, OpStartVerification)},
}

// find is the stage of a phase.
func (sc Script) find(p Phase) (st Stage) {
	if i := sc.index(p); i >= 0 {
		st = sc[i]
	}
	return st
}

// after is the stage after a phase.
func (sc Script) after(p Phase) (Stage, bool) {
	if i := sc.index(p); i >= 0 && i+1 < len(sc) {
		return sc[i+1], true
	}
	return Stage{}, false
}

func (sc Script) index(p Phase) int {
	return slices.IndexFunc(sc, func(st Stage) bool { return st.Phase == p })
}

// bounds are how long calls may take, but for OpPause.
var bounds = [OpCount]time.Duration{
	OpTake: journalBound, OpClaim: journalBound, OpRecord: journalBound,
	OpCensus: surveyBound, OpLag: surveyBound, OpSequences: surveyBound, OpInspectSessions: surveyBound,
	OpFingerprintSource: surveyBound, OpFingerprintTarget: surveyBound,
	OpPrepareFence: prepareBound, OpPrepareReverse: prepareBound, OpPrepareSnapshots: prepareBound, OpDiscardSnapshots: prepareBound,
	OpRehearseDecision: rehearseBound, OpStage: stageBound,
	OpPrelockSource: prelockBound, OpPrelockTarget: prelockBound, OpExpel: expelBound, OpFence: fenceBound,
	OpWaitMarker: markerBound, OpRestage: proveBound, OpOpenSnapshots: proveBound,
	OpDecide: DecideBound, OpDecision: registerBound, OpReject: registerBound,
	OpSwitch: switchBound, OpComplete: completeBound, OpStartVerification: completeBound,
	OpUnfence: unfenceBound, OpResume: reopenBound, OpReleaseSource: reopenBound, OpReleaseTarget: reopenBound,
	OpContinue: reopenBound, OpYieldTarget: reopenBound, OpDiscardStaged: discardBound,
}

// bound is how long a call may take.
func bound(o Op, l Limits) time.Duration {
	if o == OpPause {
		return l.DrainTimeout + drainSlack
	}
	return cmp.Or(bounds[o], journalBound)
}

// PhaseBound is the bound of a call in its phase: inside the pause nothing may take as long as it
// may outside.
func PhaseBound(p Phase, o Op, l Limits) time.Duration {
	b := bound(o, l)
	if p == PhaseProve {
		switch b = min(b, proveBound); o {
		case OpPrelockTarget:
			b = relockBound
		case OpFingerprintSource: // reads what no stream carries: as long as the operator lets the clients wait
			b = max(b, l.MaxPause-l.DrainTimeout)
		}
	}
	if p == PhaseReopen {
		b = min(b, reopenBound)
	}
	return b
}

// Bounds of single calls. Those inside the pause are below --max-pause; the pause timer ends
// whatever lasts longer.
const (
	journalBound    = 5 * time.Second        // one row by primary key on the source; sync commit to a slow standby included
	surveyBound     = time.Minute            // two catalogs read in full; some have 100 000 relations
	prepareBound    = 5 * time.Minute        // a trigger on each table, each with its own lock timeout and repeats; a slot, which waits for open transactions
	rehearseBound   = 2 * time.Minute        // the whole decision on the target, waiting for the applier's locks
	stageBound      = 2 * time.Minute        // a dial, log-in and replay for every session, many at a time
	prelockBound    = 30 * time.Second       // evicting autovacuum takes deadlock_timeout for each table it holds
	drainSlack      = time.Second            // for the gate itself, on top of --drain-timeout
	expelBound      = 2 * time.Second        // pg_terminate_backend and the wait for the process to be gone
	fenceBound      = 5 * time.Second        // about 60 ms for 1 000 tables, and lock waits of --source-lock-timeout
	markerBound     = 8 * time.Second        // apply latency; the lag was checked before the pause
	proveBound      = 8 * time.Second        // sequences, catalogs, changed sessions, all at once
	relockBound     = 2 * time.Second        // the pre-lock that was released for TRUNCATE; the decision can do without it
	DecideBound     = 15 * time.Second       // foreign keys, triggers and sequences in one transaction over a WAN
	registerBound   = 5 * time.Second        // one row by primary key on the target, or a connect that fails
	switchBound     = 10 * time.Second       // in-process: a route change and the differences of the sessions
	unfenceBound    = 10 * time.Second       // disabling the triggers waits for locks of readers' DDL, bounded again inside
	reopenBound     = 5 * time.Second        // in-process, and two rollbacks
	discardBound    = 10 * time.Second       // closes warm servers politely
	completeBound   = 24 * time.Hour         // validating foreign keys reads the tables in full
	timerSlack      = 250 * time.Millisecond // a call reports its own expiry before the phase's timer does it for it
	retryFirst      = 200 * time.Millisecond // first back-off of a call that must succeed
	retryMost       = 5 * time.Second        // and its ceiling: a database that is away comes back in seconds
	attemptFirst    = time.Second            // first back-off between attempts: lets the transaction that was in the way end
	attemptMost     = 15 * time.Second       // and its ceiling
	LagDelayMost    = 5 * time.Second        // well below markerBound; heartbeats come every second
	maxTries        = 8                      // where the counter of failures stops: the back-off has reached its ceiling
	defaultDrain    = 2 * time.Second
	DefaultPause    = 10 * time.Second
	defaultAttempts = 5
	mostAttempts    = 100
	defaultLag      = 4 << 20 // bytes; some ten thousand small transactions, which are applied well inside --max-pause
)

// Limits are the bounds that an operator may set, for the run or for one request.
type Limits struct {
	// DrainTimeout bounds the wait for open transactions with the gate closed; after it the gate
	// opens again.
	DrainTimeout time.Duration
	// Attempts bounds how often a drain timeout or a lock timeout is tried again.
	Attempts int
	// MaxPause bounds the time from closing the gate to recording "deciding".
	MaxPause time.Duration
	// MaxLagBytes is how far the stream may lag when the gate is about to be closed.
	MaxLagBytes int64
}

// DefaultLimits are the limits if the operator sets none.
func DefaultLimits() Limits {
	return Limits{DrainTimeout: defaultDrain, Attempts: defaultAttempts, MaxPause: DefaultPause, MaxLagBytes: defaultLag}
}

// Validate says what is wrong with the limits, by the names of the flags.
func (l Limits) Validate() error {
	switch {
	case l.DrainTimeout <= 0:
		return fmt.Errorf("--drain-timeout is %v: it must be more than zero", l.DrainTimeout)
	case l.MaxPause <= l.DrainTimeout:
		return fmt.Errorf("--max-pause (%v) must be more than --drain-timeout (%v)", l.MaxPause, l.DrainTimeout)
	case l.Attempts < 1 || l.Attempts > mostAttempts:
		return fmt.Errorf("--attempts is %d: it must be between 1 and %d", l.Attempts, mostAttempts)
	case l.MaxLagBytes <= 0:
		return fmt.Errorf("the lag that a cutover begins with is %d bytes: it must be more than zero", l.MaxLagBytes)
	}
	return nil
}

// Or fills fields that are zero from other.
func (l Limits) Or(other Limits) Limits {
	l.DrainTimeout = cmp.Or(l.DrainTimeout, other.DrainTimeout)
	l.Attempts = cmp.Or(l.Attempts, other.Attempts)
	l.MaxPause = cmp.Or(l.MaxPause, other.MaxPause)
	l.MaxLagBytes = cmp.Or(l.MaxLagBytes, other.MaxLagBytes)
	return l
}

// doubled is first, doubled n times, at most most.
func doubled(first, most time.Duration, n int) time.Duration {
	d := first
	for range n {
		if d *= 2; d >= most {
			return most
		}
	}
	return d
}
