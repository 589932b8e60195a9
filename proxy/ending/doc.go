// Package ending holds the reasons for which a session ends, and what its client is told.
//
// # Invariants
//
//   - LastWords returns, for each reason, the one message that the client gets, or none if the
//     client is gone or its server has already told it.
//   - Farewell waits a moment for the client to close the connection, within bounds of time and
//     bytes: unread bytes of the client would reset the connection and destroy the message on its
//     way.
package ending
