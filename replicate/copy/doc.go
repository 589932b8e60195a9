// Package copy copies the rows of many tables from one database to another
// while the first one is being written.
//
// Protocol, per relation: pending → copying → copied, recorded in
// crossfade.relation on the target with the snapshot under which it is copied
// and the file (relfilenode) that this snapshot sees. A relation is cut into
// chunks by ranges of blocks. Per chunk there is one transaction on each side:
//
//	source: BEGIN, import the snapshot, COPY (SELECT …) TO STDOUT,
//	        pg_relation_filenode, COMMIT
//	target: BEGIN, lock the relation's record, COPY … FROM STDIN,
//	        INSERT INTO crossfade.chunk, COMMIT
//
// The bytes between the two COPYs are relayed as they are: no value is decoded.
//
// Invariants:
//
//   - A chunk lands exactly once. Its rows and its record commit together, and
//     only if the source's COPY ended well, both COPY tags name the same number
//     of rows, and the file of the relation is still the one that the snapshot
//     sees. After a COMMIT without an answer the record is read.
//   - A relation whose file changed (TRUNCATE, a rewriting ALTER TABLE, VACUUM
//     FULL, CLUSTER) is truncated on the target with its records and copied
//     again under a fresh snapshot: an old snapshot reads such a table as empty.
//   - Chunks of two snapshots never mix in one relation. Beginning a relation
//     anew locks its record against every chunk transaction still under way, and
//     a chunk transaction commits nothing unless the record still names its
//     snapshot and file; so a second copier, or a left-over session of a dead
//     one, can do no harm.
//   - Two snapshots with the same text on one server see the same rows. Chunks
//     that were copied under an equal text are therefore kept when a copy is
//     resumed; with any other snapshot an unfinished relation begins anew.
//     Finished relations are never touched again.
//   - On the source nothing but ACCESS SHARE on one table per session is held,
//     for no longer than a chunk takes, asked for with a lock timeout, and given
//     up when somebody waits for ACCESS EXCLUSIVE (snapshot.Yielder).
package copy
