// Package stream reads a logical replication slot of the source with the output plugin pgoutput,
// and hands out whole transactions in commit order.
//
// # Protocol
//
// One walsender session (replication=database). IDENTIFY_SYSTEM must name the server that the
// migration began on. START_REPLICATION asks for protocol version 1, and for logical messages where
// the source knows the option (PostgreSQL 14 and later). From then on one goroutine receives and
// another sends standby status updates, at an interval and at once when the source asks; so the
// source does not believe that we are gone while the receiver waits for the applier.
//
// # Invariants
//
//   - Parts come in commit order. Every transaction that ends after Config.Start is handed out
//     exactly once by one Reader, over all its connections, except that a Void part revokes the
//     parts of one that was interrupted.
//   - A transaction of more than Config.PartBytes is handed out in several parts while it is still
//     being received, so memory does not grow with its size. The position where it ends is known
//     with its last part only.
//   - The bytes of parts that are handed out and not released stay below Config.MaxBytes, except
//     for a single larger part. Beyond it the Reader stops reading, and TCP slows the source down;
//     status updates continue.
//   - No position is reported to the source as flushed other than those that Confirm was called
//     with (or Start). Write, flush and apply are always all given.
//   - The positions are ends of commit records, never their starts. The position of a keepalive
//     counts only outside of a transaction, and is handed out as an Idle part, so that the applier
//     makes it durable before it confirms it.
//   - A slot whose confirmed position is beyond what Confirm said was moved or created again by
//     someone else: Run ends, since changes are lost. That is checked in each session once our
//     walsender has the slot, so that it cannot be moved after the check.
//   - A source whose WAL ends before what it has sent already was restored to an earlier state: Run
//     ends.
//   - The decoder takes any bytes and gives a message or an error. No length is used before it was
//     compared with the bytes that there are.
//
// # Memory
//
// The payload of each CopyData is copied once, out of the connection's buffer into a slab;
// decoded values point there. A Part owns what it points to until Release, after which the garbage
// collector frees whole slabs.
//
// # Failure
//
// After a lost connection a new one is opened, with growing pauses, until the context ends. Errors
// that no new connection fixes end Run: the slot is gone or invalidated, WAL was removed, a right
// is missing, the source is another server, or it sent something that is no message.
package stream
