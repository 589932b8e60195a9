// Package dbconn keeps the connections that a run itself has to its two databases, those that carry
// neither rows nor clients, and says what other sessions of these databases do: who waits for a lock,
// who holds it, and which statement ends the wait.
//
// Invariants:
//
//   - A Link has one connection at most and one user at a time. A connection that was lost, or that a
//     failed transaction was left on, is closed, so that the next user gets a sound one.
//   - Closing waits for nobody longer than CloseTimeout: the server may be gone.
//   - A question about locks is not broken off, which would end the connection that others ask with
//     too, and it has a bound of its own (AskTimeout).
//   - What an error says of a statement is its shape (pg.Shape): no value of a row or a parameter is
//     shown.
package dbconn
