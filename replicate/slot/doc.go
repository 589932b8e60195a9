// Package slot makes and drops what the source must keep for the stream of changes: the publication
// and the logical replication slot.
//
// Protocol:
//
//  1. EnsurePublication, with the explicit list of the tables that hold rows
//     (plain tables and the leaves of partitioned ones). It comes before the
//     slot: the decoder looks the publication up as it was at each position of
//     the WAL, and would not find one that is younger.
//  2. Create, over a replication connection that stays open: the slot's
//     exported snapshot lives until the next command on that connection. The
//     caller imports it (package snapshot) and then calls Slot.Release.
//
// Invariants:
//
//   - Each lock is requested with lock_timeout, 200 ms unless configured, and requested again. A
//     statement of the application never waits longer than that for one of ours.
//   - Nothing here waits without a bound; the error of a wait that reached its bound names the
//     sessions in the way.
//   - Every function may be repeated after a crash: what is already as wanted is left alone. Create
//     never adopts a slot that exists (ErrExists), since its snapshot is gone.
package slot
