// Package rewrite changes the bytes between a client and a server other than the one that the
// client logged in to. It is not used before a session has moved.
//
//	client ── Late ── Backends ── Types ──> server   statements parsed when they are first used; numbers of backends and types
//	client <── Late ── Types ── PIDs ────── server   answers to what the client has not sent; numbers of types; the pid of a notification
//
// A Filter is the four together. It is shown whole frames by the session's wire.Tracker, which cuts
// the bytes and knows which request an answer belongs to; nothing here walks over a stream.
//
// # Invariants
//
//   - Only whole frames are changed, together with their length; a frame that is too long to be
//     held passes unchanged.
//   - The output does not depend on how the bytes are cut into reads (FuzzWalk).
//   - A session with nothing to translate has a nil value, which costs nothing.
//   - The memory that a client can make this package use is bounded.
//
// The values are not safe for concurrent use: a session calls them under its own lock.
package rewrite
