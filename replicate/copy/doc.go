// Package copy copies the rows of many tables from one database to another while the first one is
// being written, and after any interruption continues where it was.
//
// Protocol, per relation: pending → copying → copied, recorded in crossfade.relation on the target
// with the snapshot under which it is copied, the file (relfilenode) that this snapshot sees, and
// the number of the attempt. A relation is cut into chunks by ranges of blocks. Per chunk there is
// one transaction on each side:
//
//	source: BEGIN, import the snapshot, COPY (SELECT …) TO STDOUT,
//	        pg_relation_filenode and the names of the moment, COMMIT
//	target: BEGIN, lock the relation's record, COPY … FROM STDIN,
//	        INSERT INTO crossfade.chunk, COMMIT
//
// The bytes between the two COPYs are relayed as they are: no value is decoded. Small relations
// that have not been begun go from pending to copied in batches: several COPYs in one transaction
// on each side, which writes all their records. A batch that fails has changed nothing; its
// relations are then copied one by one.
//
// Before anything is cut, the first rows of a large relation go into a table of the target that is
// never committed: that determines how many bytes a chunk may have. A relation that takes at most
// the time of two chunks is one chunk, unless several streams would be faster.
//
// A relation that is one chunk is emptied in the chunk's own transaction and its rows are written
// frozen, but only if its file on the target is empty.
//
// # A lost snapshot
//
// A snapshot lives as long as a session on the source has it. When the last session is gone,
// relations that are copied keep the snapshot in their records; those that have not been begun take
// a fresh one. One that was begun is repaired, if a stream belongs to the copy and the relation has
// a key:
//
//	begin:   the record gets the fresh snapshot and the next attempt; chunks stay
//	copy:    what is missing, under the fresh snapshot
//	collect: the slot is read, and not moved, up to a message that was written
//	         after the fresh snapshot; the keys, old and new, of every change by
//	         a transaction that the fresh snapshot sees and that of some chunk does
//	         not, go to crossfade.delta
//	delete:  the rows of these keys, whichever chunk they came with, in one
//	         transaction with the record
//	fetch:   their rows under the fresh snapshot, some thousand keys in one
//	         transaction with the record
//	finish:  as if all had been copied under the fresh snapshot
//
// Why this is right: a row whose key is not among those was the same under all the snapshots in
// between, at the same place, since only a change or a rewrite moves a row, so that exactly one
// chunk brought it. docs/design/copy.md explains it in detail.
//
// # Trees that the target routes otherwise
//
// Leaves with Table.Through are put through a partitioned table of the target, which chooses
// another leaf for a row than the source did. All leaves of one tree are copied under one snapshot,
// are announced together, and restart together: no row of the target can be attributed to one of
// them.
//
// # Invariants
//
//   - A chunk lands exactly once. Its rows and its record commit together, and only if the source's
//     COPY ended well, both COPY tags name the same number of rows, and the file of the relation is
//     still the one that the snapshot sees. After a COMMIT without an answer the record is read.
//   - A finished chunk is not copied again, unless its relation is emptied first, which
//     crossfade.relation counts (restarts). That happens when the file changed (TRUNCATE, a
//     rewriting ALTER TABLE, VACUUM FULL, CLUSTER: an old snapshot reads such a table as empty),
//     when more than a fifth of the rows changed, and if there is no key or no stream.
//   - A relation is copied only when all its chunks belong to one snapshot, or were brought to one.
//     Each start of a relation raises the attempt; it waits for chunk transactions under way, which
//     hold the record, and a later one with the number of an earlier attempt commits nothing. So a
//     second copier, or a left-over session of one that was killed, does no harm.
//   - Two snapshots with the same text on one server see the same rows.
//   - A fresh snapshot sees every transaction that the slot's own snapshot sees: what the stream
//     leaves out is contained in every copy. What a fresh snapshot sees is on the source's disk
//     before it is used, so that a crash cannot take it back.
//   - With OneMoment all relations belong to the same snapshot, or Run ends with ErrMoment.
//   - Finished relations are never touched again.
//   - On the source nothing but ACCESS SHARE on one table per session, or on the small ones of a
//     batch, is held, for no longer than a chunk or a batch takes, asked for with a lock timeout,
//     and given up when someone waits for ACCESS EXCLUSIVE (snapshot.Yielder).
package copy
