// Package rewrite changes the bytes between a client and a server other than the one that the
// client logged in to. It is not used before a session has moved.
//
//	client ── Late ── Backends ──> server     statements parsed when they are first used; numbers of backends
//	client <── PIDs ── Late ────── server     the pid of a notification; answers to what the client has not sent
//
// # Invariants
//
//   - Only whole frames are changed, together with their length; a frame that is too long to be
//     held passes unchanged.
//   - The output does not depend on how the bytes are cut into reads (FuzzPIDs).
//   - A session with nothing to translate has a nil value, which costs nothing.
//   - The memory that a client can make this package use is bounded.
//
// The values are not safe for concurrent use: a session calls them under its own lock.
package rewrite
