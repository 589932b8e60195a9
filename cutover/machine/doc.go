// Package machine says what a cutover does next. Step is a pure function, (state, event) → (state,
// effects), without clock, goroutine, input or output: cutover.Coordinator performs the effects and
// feeds what comes of them back.
//
// # Protocol
//
// An attempt goes through the stages of script.go, in their order:
//
//	claim ─ survey ─ prepare ─ rehearse ─ stage ─ prelock      step arming
//	  record pausing ─ pause ─ expel                           step pausing   gate closed
//	    fence                                                  step fenced    closing side closed
//	      record draining ─ marker ─ prove                     step draining
//	        record deciding ─ decide                           step deciding
//	          record decided ─ switch ─ complete               step decided   opening side open, gate open
//
// Everything before "decide" has an edge to the undoing, and none after it has one:
//
//	take the journal's row ─┬─ arming, pausing ─ record idle (or arming, to retry) ─┐
//	                        ├─ fenced, draining ─ unfence, which records idle ──────┼─ reopen ─ discard ─ rest
//	                        ├─ idle, following … ───────────────────────────────────┘
//	                        ├─ deciding ─ register ─┬─ commit ─ record decided ─ switch
//	                        │                       ├─ abort ── take, unfence
//	                        │                       └─ no row ─ reject: insert an abort, the primary key decides
//	                        └─ decided ─ switch
//
// A start takes the same path. Abort and recovery are one piece of code: the state in memory only
// adds what else has to be released (gate, locks, snapshots, staged servers).
//
// # Invariants
//
//   - Journal first: a record is an effect of its own, and what it announces is requested only
//     after it has succeeded. Fence and Decide record themselves, in their own transactions.
//   - When in doubt, take the row again. Journal.Take changes the owner token, so that no write
//     which is still in flight can succeed after it; then the row is the truth, and is acted on.
//   - Only the register says whether an epoch was decided. After "deciding" is recorded nothing is
//     undone before the register holds an abort, and nothing is switched before it holds a commit.
//   - Never do both sides take writes: Decide is requested after Fence, and Unfence only if there
//     is no commit and none can follow.
//   - The gate opens according to the journal or the register, never on a timer (C18). A timer can
//     only end an attempt, and an ended attempt asks the journal.
//   - Every phase but rest has a timer that leads out of it. Timers and results carry the
//     generation of their phase; of another generation they change nothing.
//   - What was requested counts as acquired until it has been released, whatever its call returned.
//
// The walk in walk_test.go visits every state that can be reached, with calls that fail, are
// performed without an answer or arrive late, and with SIGKILL between any two events, and checks
// these at each; mutant_test.go proves that the walk can fail.
//
// # Failures
//
// A drain timeout, a lock timeout of pre-lock or fence, and a stream that lags too far are tried
// again after a back-off, up to Limits.Attempts. Everything else before the decision ends the
// attempt. Calls of the undoing, and those after the decision, are repeated until they succeed.
// They run in contexts that do not end with Run's.
package machine
