// Package snapshot keeps an exported snapshot alive and opens the short read transactions that use
// it.
//
// A snapshot is exported by a transaction and can be imported only while that transaction lives
// (PostgreSQL documentation 9.28.5). The Holder is a session of its own that imports the snapshot
// of a replication slot, or takes a fresh one, and exports it again. It touches no user table, so
// that its long transaction holds no relation lock; each reader is a short transaction that locks
// one table for as long as it reads a part of it.
//
// Invariants:
//
//   - A Holder never changes its snapshot. It may keep it with two sessions; if one is lost it is
//     replaced from the other. When no session is left, the snapshot is lost: Begin returns
//     ErrLost, and a caller that has to continue does so under another Holder. No reader ever reads
//     without one.
//   - Every transaction begun by Begin is REPEATABLE READ and READ ONLY, and requests locks with
//     the bound that the caller sets.
//   - Whether a streamed transaction is already contained in what was read is answered by
//     Holder.Snapshot, never by comparing LSNs.
//   - A reader that is registered with a Yielder is cancelled when another session waits for an
//     ACCESS EXCLUSIVE lock on a table that it reads.
package snapshot
