// Package extension copies the rows that users keep in tables of extensions.
//
// An extension marks its configuration tables with pg_extension_config_dump and names, by a
// condition, the rows that are the user's rather than its own (PostgreSQL documentation 38.17.3).
// CREATE EXTENSION on the target makes the tables and the extension's own rows; the others are
// copied here, and sequences so marked are set.
//
// # Invariants
//
//   - All tables are written in one transaction of the target, the rows that fit the condition
//     being removed first; so a copy may be repeated and never leaves a part of the rows.
//   - Rows are read under the copy's snapshot, referenced tables are written before those that
//     refer to them.
//   - Jobs of pg_cron are rows that act. They are not copied as they are: SyncJobs writes them
//     inactive, with the target's role and database, for as long as nothing is decided;
//     ActivateJobs, in the decision, makes active what was so on the source, and RestJobs, in the
//     fence, has the source's rest, which WakeJobs takes back. Anyone who writes comes before the
//     decision, or meets its mark in crossfade.job.
//   - No row is decoded: COPY's text goes from one side to the other.
//   - No publication holds these tables: a Digest tells whether something was written to them
//     since, and Copy is repeated then.
package extension
