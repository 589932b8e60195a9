// Package journal owns the schema "crossfade" on both databases: everything a run must remember.
// Nothing is kept on local disk.
//
// On the source: run (one row: epoch, step, the key of the fences), backend (which server
// connections belong to which incarnation of the proxy), and the function of the fence. On the
// target: run (one row: what is being moved and how far it is), relation and chunk (what is
// copied), published (how the source's publication had each table when the slot was made), delta
// (keys of rows that changed after a part of their table was copied under a snapshot that was then
// lost), progress (what is applied), item (what of the schema is restored), decision (which epochs
// were decided), pin and role (what logins need to know of the source's roles), seal (the catalog's
// rows of the target's fence), and a fence of its own.
//
// Invariants:
//
//   - The step on the source changes only by compare-and-set on (epoch, step, coordinator); a
//     caller that loses the comparison gets ErrMoved and must stop.
//   - The row of crossfade.decision, whose primary key is the epoch, is the one decision of that
//     epoch: 'commit' or 'abort', whichever is first.
//   - A fence is in the catalog (C14): triggers on every table, enabled as ALWAYS, and the body of
//     their function, which shuts or opens them all at once. Rows only carry the key by which our
//     own sessions pass.
//   - The source's tables may be read by everybody, so that dumps of the database by others go on,
//     and hold no secret: of the key a digest. The target's are their owner's alone.
//   - crossfade.role has verifiers of passwords: nobody but its owner has a right on it, and no
//     error or log shows what is in it.
//   - Both run rows carry the same run_id; two databases whose rows differ belong to different runs
//     and are never touched together.
package journal
