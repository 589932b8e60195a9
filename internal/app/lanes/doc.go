// Package lanes keeps the side that is not active level with the one that is, in both directions.
//
// A Lane reads the changes of one side and writes the other. It follows while the side that it reads
// is the active one, and otherwise watches: then that side is closed, or not opened yet, and what
// someone else writes there is an alarm (C17). A decision ends the following of the lane that led to
// the side which it opens, and begins that of the other lane, from the decision's own marker on:
//
//	watch ── a decision opens the side that is read ──► make the other side passive ──► follow
//	  ▲                                                                                   │
//	  └────────────────── a decision opens the side that is written ◄─────────────────────┘
//
// # Invariants
//
//   - A side is made passive, and its lane opened, in one transaction, which names the epoch whose
//     decision has closed the side: after a restart it is done once, whether it was seen to commit or
//     not.
//   - Nothing is written before that transaction, and nothing that the decision has not seen: what
//     comes before the decision's marker is left out (apply, Row.Since).
//   - A slot is read from the time that it is made on, so that no WAL is kept for it while nothing of
//     it is needed, and a server that drops idle slots does not drop it. What a decision wrote is not
//     confirmed before it was applied.
//   - Every transaction that a lane writes begins with a message of ours.
package lanes
