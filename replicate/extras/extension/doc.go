// Package extension copies the rows that users keep in tables of extensions.
//
// An extension marks its configuration tables with pg_extension_config_dump and names, by a
// condition, the rows that are the user's rather than its own (PostgreSQL documentation 38.17.3).
// CREATE EXTENSION on the target makes the tables and the extension's own rows; the others are
// copied here, and sequences so marked are set.
//
// # Invariants
//
//   - All tables are written in one transaction of the target, after the rows that fit the
//     condition have been removed; so a copy may be repeated and never leaves only a part of the
//     rows.
//   - Rows are read under the copy's snapshot, referenced tables are written before those that
//     refer to them.
//   - Jobs of pg_cron are rows that act by themselves. They are not copied unchanged: SyncJobs
//     writes them inactive, with the target's role and database, until the decision; ActivateJobs,
//     in the decision, activates those that were active on the source, and RestJobs, in the fence,
//     suspends the source's, which WakeJobs undoes. A writer commits before the decision, or finds
//     its mark in crossfade.job.
//   - No row is decoded: the text of COPY is passed from one side to the other.
//   - No publication holds these tables: a Digest shows whether something was written to them
//     since, and Copy is repeated then.
package extension
