// Package verify compares the rows of two databases that are frozen at the same logical state.
//
// Protocol: Freeze opens a REPEATABLE READ snapshot on each side at a moment at which the caller
// knows both to be equal (writers fenced, the marker applied, or both at rest). Nothing else has to
// happen in a pause. Where one side follows the other, Following takes such a pair and stops nobody:
// it holds the stream, makes a temporary replication slot, has the stream go on to exactly the
// slot's consistent point, and opens the other side's snapshot there. A Round compares many tables
// from pairs that it takes and lets go. Verifier.Run then reads both snapshots in the background, in short transactions, and
// compares for each table the number of rows and a sum of 64-bit hashes of the rows' text, which
// does not depend on their order and can be added up over ranges of blocks; the two sides need not
// use the same ranges.
//
// Invariants:
//
//   - Every row of every table is read on both sides. Keys that differ are named up to a bound, and
//     where there are more, or may be, that is said (Result.More).
//   - A Round believes that a table is not equal when it was not in two pairs, one after the other.
//     It does not use a pair for one more table when it is old; a single table is read from one.
//   - A table is "different" only if both snapshots still read the files that they saw when they
//     were taken. A table that was truncated, rewritten or dropped since, on either side, reads as
//     empty and is "not provable".
//   - Snapshots that were lost, with the process that held them or with their server, are taken
//     once more (Config.Since): the source still has its rows, and it is known which transactions
//     the target's snapshot saw when both were equal. Every row of the target that was not written
//     since must be in the source unchanged. A table is equal if all rows of the source are found
//     in this way; if some were changed or deleted since, their old values cannot be read any more,
//     and the table is "not provable".
//   - Rows are compared as text, made by both servers under the same settings, which Run sets
//     itself. Floating-point columns are compared by their bytes where a server is older than
//     PostgreSQL 12, whose text rounds them.
//   - Leaves of a tree whose rows may be in other leaves on the other side are compared as one
//     table.
//   - Reads yield to sessions that wait for a table (snapshot.Yielder).
//   - What is reported about a difference is its key, or its place in a table without one, and no
//     other column.
package verify
