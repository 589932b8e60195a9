// Package typemap keeps the numbers of users' types true that a client knows.
//
// The OID of a type that a user made (an enum, a domain, a composite, an array of these) differs
// from one database to the other, drivers remember it, and only a superuser may choose it. So the
// numbers of one side, the source's, are those that every client sees for as long as the proxy
// lives; a session that is served by the other side is translated by name, in both directions.
//
// # What is translated
//
//	Parse                   types of parameters                       to the server
//	Bind                    binary arrays, composites, records and ranges whose values carry type numbers;
//	                        parameters that a query of the catalog compares with the number of a type
//	Query                   numbers in its text that are compared so, where it prepares nothing
//	ParameterDescription    types of parameters                       to the client
//	RowDescription          types of columns
//	DataRow                 the same binary values; columns of type oid that come from pg_type, pg_enum,
//	                        pg_range or pg_attribute, or from an expression in a query that names one of these or regtype
//
// # How
//
// A Session is fed what the client sends and what the server sends, in any cut, and returns what is
// to be sent on. It keeps a queue of the answers that the server owes, as the extended query
// protocol has them (PostgreSQL documentation 55.2.3), so that it knows the columns of a row that
// comes without its description. A frame that may have to be changed is held back until it is
// whole; all others pass as they come. Numbers in frames have a fixed width, so nothing changes its
// length except the text of catalog queries.
//
// # Invariants
//
//   - A number that neither side lists passes unchanged, unless it is the number that the clients
//     know for another type: then one high bit marks it, and the way back removes the bit.
//   - A value is changed only where its type is known. Where the type of a binary parameter is not
//     known, the server refuses a wrong number (42804); nothing is changed silently.
//   - After an answer that the queue does not expect the session counts as lost: from then on
//     descriptions are translated and rows are not.
//   - Nothing that a peer sends makes it panic, or hold more than maxHeld bytes.
//
// # Not translated
//
// Numbers in the text of prepared statements; COPY BINARY; the numbers of tables, functions and
// large objects; a frame of more than maxHeld bytes.
package typemap
