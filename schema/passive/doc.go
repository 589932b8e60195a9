// Package passive makes a closed side passive: nothing on it reacts to what the stream writes there
// (C12), while its schema stays the application's. It also knows what makes it react again.
//
// # Protocol
//
//	Make         in one transaction: what reacts is set aside, and the statements
//	             that restore it are written to crossfade.reaction
//	Enter        by each session before it writes: in replica mode where Make relies
//	             on that, or it is refused
//	Restoration  what the next decision runs (Decide), with Restored in the same
//	             transaction, and what follows it (After)
//	Pending      what of After is due, after a start too; Done takes out one that ran
//
// Where the role may set session_replication_role, the applier's sessions are in replica mode:
// ordinary triggers and rules and all foreign keys stay as they are, and Make sets aside what acts
// even then. Elsewhere it disables every trigger and rule and drops every foreign key. In both cases
// columns GENERATED ALWAYS AS IDENTITY become BY DEFAULT, check constraints that depend on more than
// the row are dropped, and row security is not forced on an owner whom it would bind.
//
// Foreign keys and check constraints come back as NOT VALID within the decision and are validated
// after it, except for those that were not valid before. Before PostgreSQL 18 the key of a
// partitioned table comes back on its leaves, and on the table itself after these are validated.
//
// # Invariants
//
//   - Make is all or nothing, and so is its record: both are the caller's transaction. It has tried
//     every statement of Decide when it returns, and rolled that back.
//   - All tables that it changes are locked before the first is changed, by schema and name as in
//     journal.Tables, and at once in the mode that is needed. The catalog is read again under these
//     locks.
//   - Make adds to what is recorded and loses none of it: a second call sets aside what has come
//     since, and what an earlier restoration has left undone is still due after the next one. In
//     After, what is validated comes first, what a partitioned table attaches next, comments last.
//   - That the applier is in replica mode is recorded with the rest and goes with it. A role that
//     may no longer set it is refused by Enter; Make, called again, then sets aside the rest.
//   - The fence's triggers are left alone, and so are the tables of extensions, and views.
//
// # What is not restored
//
// What pg_dump does not write of these objects either: which of several equal unique indexes a
// foreign key uses, the names and comments of the copies of a key on partitions that are partitioned
// themselves, comments of those on leaves, and states that a superuser gave to single triggers of a
// foreign key that was dropped. Objects that are made again have new oids.
package passive
