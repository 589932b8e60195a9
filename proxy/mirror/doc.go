// Package mirror is a server on the other side that stands ready for a session: logged in, and made to carry what
// was captured of it.
//
// # Protocol
//
//	New → Stage (replay, capture there, compare) → Shared (what other sessions can feel) → Finish (what is left)
//
// # Invariants
//
//   - What Stage has not found to be the same is an error (DiffersError): no session is put on a server that only may
//     be its mirror.
//   - Stage does nothing that other sessions can feel; Shared first gives back, for all sessions, and then takes.
//   - What a prepared statement takes and returns is compared in the numbers of types that the client knows.
//
// A Server belongs to the owner of its session; it is not safe for concurrent use.
package mirror
