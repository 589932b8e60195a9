// Package journal owns the schema "crossfade" on both databases: everything a run must remember.
// Nothing is kept on local disk.
//
// On the source: run (one row: epoch, step, the key of the fences), backend (which server
// connections belong to which incarnation of the proxy), and the function of the fence. On the
// target: run (one row: what is being moved and how far it is), relation and chunk (what is
// copied), published (how the source's publication had each table when the slot was made), delta
// (keys of rows that changed after a part of their table was copied under a snapshot that was then
// lost), progress (what is applied), item (what of the schema is restored), decision (which epochs
// were decided), proof (what the comparison after a switch has found), verification and verified
// (what comparisons while following have found), pin and role (what logins need to know of the
// source's roles), seal (the catalog's rows of the target's fence), and a fence of its own.
//
// Invariants:
//
//   - The step on the source changes only by compare-and-set on (epoch, step, coordinator); a
//     caller that loses the comparison gets ErrMoved and must stop.
//   - The row of crossfade.decision, whose primary key is the epoch, is the one decision of that
//     epoch: 'commit' or 'abort', whichever is first.
//   - A fence is in the catalog (C14): triggers on every table, enabled as ALWAYS, and the body of
//     their function, which closes or opens them all at once. Rows only hold the key with which our
//     own sessions pass.
//   - Every role may read the source's tables, so that other roles can still dump the database, and
//     they hold no secret: only a digest of the key. Only their owner may read the target's.
//   - crossfade.role has verifiers of passwords: only its owner has rights on it, and no error or
//     log shows what is in it.
//   - Both run rows carry the same run_id; two databases whose rows differ belong to different runs
//     and are never touched together.
package journal
