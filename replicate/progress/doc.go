// Package progress keeps, on the target, how far a lane of the stream has been applied: one row of
// crossfade.progress per lane.
//
// # Protocol
//
// A follower claims its lane once, when it starts. The claim raises the row's owner number, so that
// an earlier follower, wherever it still runs, cannot write any more. Each transaction that applies
// changes begins with an advance: one UPDATE that names lane, owner and the position that the
// follower believes the row to have, and sets the new one. Rows and position then commit together
// or not at all.
//
// # Invariants
//
//   - An advance that finds no row changes nothing and fails the transaction that it begins, so a
//     follower that was overtaken, whose lane was closed, or whose earlier COMMIT has an unknown
//     outcome cannot apply anything twice.
//   - The advance locks the row until the end of its transaction. Close, and the claim of another
//     follower, therefore wait for a batch in flight and see its outcome.
//   - A closed lane stays closed: no statement of this package opens it again.
//   - end_lsn never moves back.
//
// After a COMMIT whose answer was lost, ReadLocked tells the outcome: it waits for a server process
// that may still work on the row.
package progress
