// Package machine says what a cutover does next. Step is a pure function, (state, event) → (state, effects), without
// clock, goroutine, input or output: cutover.Coordinator performs the effects and feeds what comes of them back.
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
// A start takes the same walk. Abort and recovery are one piece of code: what is in memory only ever adds what else is to
// be given back (gate, locks, snapshots, staged servers).
//
// # Invariants
//
//   - Journal first: a record is an effect of its own, and what it announces is asked for when it has succeeded. Fence
//     and Decide record themselves, in their own transactions.
//   - When in doubt, take the row again. Journal.Take changes the owner token, so that no write which is still in flight
//     can succeed after it; then the row is the truth, and is acted on.
//   - The register alone says whether an epoch was decided. After "deciding" is recorded nothing is undone before the
//     register holds an abort, and nothing is switched before it holds a commit.
//   - Never do both sides take writes: Decide is asked for after Fence, Unfence only where no commit is or can come.
//   - The gate opens on the word of the journal or of the register, never on a timer (C18). A timer can only end an
//     attempt, and an ended attempt asks the journal.
//   - Every phase but rest has a timer that leads out of it. Timers and results carry the generation of their phase; of
//     another generation they change nothing.
//   - What was asked for counts as acquired until it has been given back, whatever its call returned.
//
// The walk in walk_test.go visits every state that can be reached, with calls that fail, are performed without an answer
// or arrive late, and with SIGKILL between any two events, and checks these at each; mutant_test.go proves that the walk
// can fail.
//
// # Failures
//
// A drain timeout, a lock timeout of pre-lock or fence, and a stream that is too far behind are tried again after a
// back-off, up to Limits.Attempts. Everything else before the decision ends the attempt. Calls of the undoing, and those
// after the decision, are repeated until they succeed. They run in contexts that do not end with Run's.
package machine
