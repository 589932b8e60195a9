// Package side holds the two databases that clients can be served by, and every way to a server
// there.
//
// # Protocol
//
// A connection is made in the name of a client: Endpoint.Account says what logs its role in, what
// the configuration knows or the proof that the client itself has given. At most so many
// connections as Limit says are made at once (Place). A server that says "in a moment" is asked
// again for a few seconds (dialPolicy).
//
// What must be known of a database itself is asked outside the sessions (Ask, WithSideConn), on a
// connection that lasts as long as the question, in the name of anyone who is let in: first the
// role of the configuration, then those of the sessions. A refusal that is about the role alone
// lets the next one ask.
//
// # Invariants
//
//   - On the target no server is taken whose pid clients know as another session's: it is put back
//     for one more.
//   - The numbers of types that clients know are the source's (TypeStore). They are compared with
//     the target's once for each database, and TypesAt never guesses: where they cannot be
//     compared, that is an error.
package side
