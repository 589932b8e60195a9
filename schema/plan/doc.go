// Package plan splits an archive into the parts in which it is restored (New), and says for each
// entry what the target has to execute:
//
//	pre-data    types, functions, tables, views, defaults; owners and privileges at the end
//	after-copy  indexes, unique constraints, statistics, policies
//	decision    foreign keys, triggers, rules, row security, check constraints that
//	            react, and privileges that take rights from a table's owner
//	last        default privileges, event triggers, comments on the decision's
//	            objects, and what is set for the database itself
//
// An archive names the owner of an object but has no statement that sets it, and has all settings
// of a database in one entry. New adds entries of its own for these: one for each owner, with the
// object's number, negative, and one for each setting.
//
// Invariants:
//
//   - An entry is never in an earlier part than what it depends on.
//   - Until the decision, nothing on the target reacts to a write: no foreign key, user trigger or
//     rule, no check constraint whose result depends on more than the row (it calls functions of
//     the database, or uses the time, the role or a setting) or that is not valid; row security is
//     off, identity columns take the source's values.
//   - Tablespaces are not carried over, UNLOGGED only if that is asked for, and owners only if the
//     target can set them (ResolveOwners). Role names in privileges, policies, user mappings and
//     settings are mapped, and the database's own name; nothing else in a definition is changed,
//     and NOT VALID is added to foreign keys and to check constraints that come with the decision.
//   - Columns are in the order that they have on the source, in children of table inheritance too,
//     which pg_dump's own definition would give their parents' columns first: while such a table is
//     created it has an additional first parent in Crossfade's schema, with the columns in that
//     order.
//   - In each part owners are set when the part's objects exist, and privileges after the owners,
//     since they may take from an owner what making a trigger needs.
//   - The objects that Crossfade makes are in no plan.
package plan
