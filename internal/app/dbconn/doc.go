// Package dbconn keeps the run's own connections to its two databases, those that carry neither
// rows nor clients, and reports what other sessions of these databases do: which one waits for a
// lock, which one holds it, and which statement ends the wait.
//
// Invariants:
//
//   - A Link has one connection at most and one user at a time. A connection that was lost, or that
//     a failed transaction was left on, is closed, so that the next user gets a working one.
//   - Closing never waits longer than CloseTimeout: the server may be gone.
//   - A query about locks is not cancelled, since that would end a connection that others use too;
//     it has a bound of its own (AskTimeout).
//   - An error shows a statement only by its shape (pg.Shape): no value of a row or a parameter is
//     shown.
package dbconn
