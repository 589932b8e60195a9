// Package apply follows the changes of a source and applies them to a target, in commit order and
// exactly once.
//
// # Protocol
//
// A Follower claims its lane's progress row on the target and reads the slot from the position in
// it. Transactions that arrive together form a batch, which is closed at a commit boundary when no
// more changes have arrived or a bound is reached; so batches grow with the load and add nothing to
// the lag of a quiet source. A batch is one transaction on the target and one pipeline:
//
//	BEGIN; advance the progress row; statements; COMMIT
//
// Within the batch the changes of one row are merged into their net effect, and each table gets at
// most one DELETE, one UPDATE per set of columns and one INSERT, in this order, between two changes
// that cannot be merged. Values are parameters that hold what the source's output functions wrote;
// no value passes through a Go type.
//
// # Invariants
//
//   - Rows and progress commit together. A follower that was overtaken, or whose earlier COMMIT
//     went through unseen, fails at the advance, before it changes anything.
//   - The target is always in the state that the source had at a commit.
//   - Every statement proves, before the COMMIT, that it changed as many rows as it was given: in a
//     batch by itself (a division by zero if not), row by row by its tag. A batch that fails is
//     rolled back and replayed with each source transaction as a target transaction of its own and
//     each change as a statement of its own, in order. What fails then ends the Follower with a
//     RowError; nothing is ever skipped.
//   - Changes by transactions that the snapshot of a relation's copy has seen are left out; that is
//     decided by the transaction's number, never by an LSN.
//   - Only what is durable is reported to the source. Commits do not wait for the target's disk,
//     except one in each DurableInterval, whose flush covers those before it. A new session first
//     makes durable what it finds.
//   - A relation that the target does not have, or whose columns or types do not fit, ends the
//     Follower with a DriftError. All transactions before it have been applied then, and nothing of
//     the one that has it: a target that is made to fit fits all that follows.
//   - A relation that was copied is identified by its oid, whatever its name was when it was
//     changed. One whose columns had exchanged their names by then ends the Follower with a
//     RenamedError, since the stream has no numbers of columns.
//   - Changes of a table that arrived under two descriptions, such as before and after a change of
//     its replica identity, are applied in their order.
//   - After an expected marker nothing is applied until Continue. What arrives is kept in memory up
//     to the Reader's bound; the rest is left on the source.
//   - A freeze shows the target exactly as a snapshot of the source is: batches end at its cut, all
//     of them are answered, and nothing is applied while what asked for it looks. It is bounded by
//     its context, after which the stream continues.
//
// # What the SQL means
//
// Nothing that users of the target can define influences what a statement does. A text becomes a
// value by the type's own input function, called by its name, by the receive function of an enum,
// or for a field of a JSON record (travel); no cast is ever looked up, since the owner of a type
// may define one from text. Key columns are compared by the operator of their unique index, as the
// type that the operator takes, so that an operator of the same name for a domain is not preferred.
//
// # Naming a row
//
// A row is named by the replica identity. Where the source sends whole old rows (REPLICA IDENTITY
// FULL) the target's primary key or another unique index of columns that are never null is used,
// and without such an index a single row that equals the old one in every column. Changes are
// merged only where the key's types have one text for each value (or one can be made, as for
// numeric). Values that an update did not change and did not send stay out of its SET.
//
// # Trees that the target routes otherwise
//
// Changes of leaves in Routes are applied to the partitioned table above them, which finds the row
// whichever leaf it is in. Leaves of one tree share a table in the plan, so that a row that moves
// between leaves is one row; if their descriptions do not allow that, changes under one description
// are applied before those under the next. TRUNCATE must name all leaves of such a tree, or ends
// the Follower with a ScatteredError.
//
// # Large transactions
//
// A transaction beyond the Reader's part size is applied while it is still being received: one
// target transaction, a savepoint for each part.
//
// # Failure
//
// After a lost connection to either side a new one is opened, with growing pauses. A lost
// connection to the target ends the session: its server process is ended, the progress row is read,
// and the stream begins again from there. A wait for a lock is bounded; the batch is then rolled
// back and tried again.
//
// # Limits of today
//
// One batch is in flight at a time, over one connection. A heartbeat needs a source of version 14
// or later; before, the lag in time is unknown.
package apply
