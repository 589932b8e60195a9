// Package mirror prepares a server on the other side for a session: it is logged in, and given the
// state that was captured of the session.
//
// # Protocol
//
//	New → Stage (replay, capture there, compare) → Shared (what affects other sessions) → Finish (the rest)
//
// # Invariants
//
//   - Any difference that Stage finds is an error (DiffersError): no session is moved to a server
//     that is not proved to be its mirror.
//   - Stage does nothing that affects other sessions. Shared first releases locks and channels for
//     all sessions, and then takes them.
//   - What a prepared statement takes and returns is compared in the numbers of types that the
//     client knows.
//
// A Server belongs to the owner of its session; it is not safe for concurrent use.
package mirror
