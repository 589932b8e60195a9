// Package restore executes a plan on the target, and the statements that follow a decision, and
// drops what it has made.
//
// Invariants:
//
//   - An entry and its row in crossfade.item commit together, so a restore that was killed
//     continues after what it did, and does nothing twice.
//   - The index of a primary key or unique constraint of a large table is built by a transaction of
//     its own, recorded under the entry's number, negative (such an entry has no owner), and
//     attached to the constraint in another.
//   - The after-copy entries of a table begin when its rows have been copied. Indexes of one table
//     are built concurrently; any other statement has its tables to itself. All builds together
//     stay within the memory that as many sessions may take by the target's own
//     maintenance_work_mem.
//   - An index or a constraint whose expressions call functions that are not PostgreSQL's own is
//     made under the source's search_path, when all tables are copied.
//   - A statement that the target refuses stops the restore, unless the object exists already (an
//     index or a constraint with the same definition), or no application could notice its absence;
//     either way it becomes a Finding with the server's message and what to do.
package restore
