// Package rewrite changes the bytes that pass between a client and a server which is not the one that the client
// logged in at: nothing passes here before a session has moved.
//
//	client ── Late ── Backends ──> server     statements parsed when they are first used; numbers of backends
//	client <── PIDs ── Late ────── server     the pid of a notification; answers to what the client has not sent
//
// # Invariants
//
//   - Only whole frames are changed, and their length with them; a frame that is too long to be held passes as it is.
//   - However the bytes are cut into reads, what comes out is the same (FuzzPIDs).
//   - A session with nothing to be translated is told so by a nil value, and pays nothing.
//   - What a client can make this package remember is bounded.
//
// The values are not safe for concurrent use: a session calls them under its own lock.
package rewrite
