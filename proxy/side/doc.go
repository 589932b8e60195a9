// Package side holds the two databases that clients can be served by, and every way to a server
// there.
//
// # Protocol
//
// A connection is made on behalf of a client: Endpoint.Account gives the credentials of its role,
// from the configuration or from the proof that the client itself has given. Limit bounds how many
// connections are made at once (Place). A server that says "in a moment" is asked again for a few
// seconds (dialPolicy).
//
// Questions about a database itself are asked outside the sessions (Ask, WithSideConn), on a
// connection that lasts as long as the question. It logs in as the first role that is accepted: the
// role of the configuration, then those of the sessions. After a refusal that concerns the role
// alone, the next role is tried.
//
// # Invariants
//
//   - On the target no server is taken whose pid clients know as another session's: it is closed,
//     and another one is made.
//   - The numbers of types that clients know are the source's (TypeStore). They are compared with
//     the target's once for each database, and TypesAt never guesses: where they cannot be
//     compared, that is an error.
package side
