// Package login lets clients in: from an accepted connection to a session whose client has proved
// who it is.
//
//	accept → TLS, cancel → start-up packet → who is it (auth) → Gate.Enter → dial → greeting → session
//
// # Invariants
//
//   - Until its client has authenticated, a connection is bounded in time (LoginTimeout), in bytes,
//     and in number by address and in all. The oldest unauthenticated connection is closed to make
//     room for a new one, so that half-open connections displace each other and no client that logs
//     in.
//   - A session logs in on a side with what Endpoint.Credentials knows or, where the side's servers
//     keep the same secrets, the client's own proof, which stays in the memory of its session. An
//     error of a server about our credentials is not passed on as the client's mistake.
//   - A login holds a lease from before its dial until its session is registered. At the closed
//     gate clients prove who they are, and wait before the dial.
//   - A client that is refused is told why, in the words and with the SQLSTATE of a server.
package login
