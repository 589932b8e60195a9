// Package proxy is the wire proxy in front of the applications. It serves each client by one server
// connection of its own, and moves every live session to the other side while the client keeps its
// connection.
//
// This package is its interface: Config, Proxy with the verbs of a move, status and metrics. It
// combines:
//
//	login     from accept to a proven client          accept → TLS, cancel → who is it → gate → dial → greeting
//	session   one client's session, and the registry  client ── engine or two pumps ── server
//	move      the verbs                               Stage → Pause → Restage → Switch, or Resume
//
// login and move know session and not each other; below them are mirror (a server that is prepared
// for a session), side (the two databases and every way to a server there), rewrite (what is
// changed in bytes after a move), ending (why a session ends), state (what a session carries), poll
// (the event loop), typemap, backend, auth, route, tlsconf and wire. internal/lab/arch enforces
// these directions.
//
// # Invariants
//
//   - A client is answered once: no statement is ever sent twice, and a COMMIT without an answer is
//     not drained.
//   - A gate that Pause has closed is opened by Resume or Switch, by no timer. A client held beyond
//     HoldLimit gets 57P03; what it asked for was not executed.
//   - A hostile peer ends its own session. A panic is recovered at the session's boundary, logged
//     as a bug and counted.
//   - Every goroutine has ended when Run returns.
//
// # Limitations
//
//   - Replication connections are passed on to the source byte by byte and cannot be moved: they
//     make an attempt abort, or are disconnected by it. After a switch they are refused.
//   - A session that waits for an advisory lock of one that is parked keeps the drain from ending
//     until the client that holds the lock releases it. The holder is therefore allowed to continue
//     (move/drain.go); if it does not release the lock, the drain ends at its bound and names both
//     sessions.
//   - Numbers of users' types are the source's on both sides (typemap), except where that package
//     says otherwise.
//   - Notifications sent by sessions that bypass the proxy between Restage and Switch may be lost.
package proxy
