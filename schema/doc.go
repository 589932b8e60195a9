// Package schema moves a database's schema: it dumps it, restores it on the
// target in parts, and tells whether two schemas have drifted apart.
//
// pg_dump is the authority on DDL. Its custom-format archive is parsed here, and
// each entry's own definition is executed; no statement is composed from the
// catalog but those that pg_dump has no words for: foreign keys per partition,
// the kind of identity columns, VALIDATE and REFRESH.
//
// An archive is split into parts (NewPlan):
//
//	pre-data    types, functions, tables, views, defaults; owners and privileges at the end
//	after-copy  indexes, unique constraints, statistics, policies
//	decision    foreign keys, triggers, rules, row security, check constraints that
//	            react, and privileges that take rights from a table's owner
//	last        default privileges, event triggers, comments on the decision's
//	            objects, and what is set for the database itself
//
// An archive says who owns an object and not how that is set, and has all that is
// set for a database in one entry. NewPlan adds entries of its own for these: one
// for each owner, with the object's number, negative, and one for each setting.
//
// A newer archive of the same source is held against the one that was restored
// (Continued, Compare): what is still to come is taken from the newer one, and what
// the target has been given already and has otherwise is a Change, with the statement
// for the target where it can be told. A Digest says whether there is anything to
// compare, and a RowIdentity what the definitions do not show: that rows may have
// changed although the columns look as before.
//
// Invariants:
//
//   - An entry is never in an earlier part than what it depends on.
//   - Until the decision, nothing on the target reacts to a write: no foreign
//     key, user trigger or rule, no check constraint whose answer depends on more than the
//     row (it calls functions of the database, or the time, the role or a setting is in it) or
//     that is not valid, row security is off, identity columns take the
//     source's values.
//   - An entry and its row in crossfade.item commit together, so a restore that
//     was killed goes on behind what it did, and does nothing twice.
//   - The index of a primary key or unique constraint of a large table is built by a
//     transaction of its own, recorded under the entry's number, negative (such an
//     entry has no owner), and taken by the constraint in another.
//   - The after-copy entries of a table begin when its rows are there. Builds of
//     indexes of one table run side by side; any other statement has its tables for
//     itself. All builds together stay within the memory that as many sessions may
//     take by the target's own maintenance_work_mem.
//   - Tablespaces are not carried over, UNLOGGED only where it is asked for, and
//     owners where the target can set them (ResolveOwners). Role names in privileges,
//     policies, user mappings and settings are mapped, and the database's own name;
//     nothing else in a definition is changed, and NOT VALID is added to foreign keys and to
//     check constraints that come with the decision.
//   - An index or a constraint whose expressions call functions that are not PostgreSQL's own is
//     made under the source's search_path, when all tables are copied.
//   - Columns stand where the source has them, in children of table inheritance too,
//     which pg_dump's own definition would give their parents' columns first: while such
//     a table is created it has a first parent in Crossfade's schema, with the
//     columns in that order.
//   - In each part owners are set when the part's objects are there, and privileges
//     after the owners, since they may take from an owner what making a trigger needs.
//   - A statement that the target refuses stops the restore, unless what it asks
//     for is there already or no application could notice its absence; either
//     way it becomes a Finding with the server's words and what to do. The value of
//     a setting is in none.
//   - pg_dump decides which objects a Filter takes along. Rows are left out by the
//     same expressions, evaluated by the server with the search path that pg_dump has.
//   - The objects that Crossfade makes are in no archive, plan or fingerprint.
//   - An entry keeps its number in every newer archive, so that crossfade.item stays true.
//   - A digest covers every catalog that pg_dump reads and no object that passes:
//     two that are equal mean that pg_dump would write the same.
//   - A fingerprint compares what reads the same on every version; expressions
//     as a server prints them only between servers of one major version.
package schema
