// Package ending holds the reasons for which a session ends, and what its client is told.
//
// # Invariants
//
//   - LastWords makes of each reason the one message that the client gets, or none where the client has left or its
//     server has said it all.
//   - Farewell waits for a moment until the client has closed the connection, within bounds in time and in bytes: what
//     the client sent and nobody has read would destroy the words on their way.
package ending
