// Package login lets clients in: from an accepted connection to a session whose client has proved
// who it is.
//
//	accept → TLS, cancel → start-up packet → who is it (auth) → Gate.Enter → dial → greeting → session
//
// # Invariants
//
//   - Until it has proved who its client is, it is bounded in time (LoginTimeout), in bytes, and in
//     number by address and in all. The oldest unauthenticated connection gives way to a new one,
//     so that half-open connections push out each other and no good client.
//   - What logs a session in at a side is what Endpoint.Credentials knows or, where the side's
//     servers keep the same secrets, the client's own proof, which stays in the memory of its
//     session. What a server says of our credentials is not put on the client.
//   - A login holds a lease from before its dial until its session is registered. At the closed
//     gate clients prove who they are, and wait before the dial.
//   - A client that is let in nowhere is told why, in the words and with the SQLSTATE of a server.
package login
