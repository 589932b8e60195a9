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
// A Session is a part of the Filter of a wire.Tracker: it gets whole frames of the types above, and
// is told which of the requests that the server owes an answer has it, was refused, or cannot be
// told any more. So it knows the columns of a row that comes without its description. Numbers in
// frames have a fixed width, so nothing changes its length except the text of catalog queries.
//
// # Invariants
//
//   - A number that neither side lists passes unchanged, unless it is the number that the clients
//     know for another type: then one high bit marks it, and the way back removes the bit.
//   - A value is changed only where its type is known. Where the type of a binary parameter is not
//     known, the server refuses a wrong number (42804); nothing is changed silently.
//   - Once the Tracker has given up the count, descriptions are translated and rows are not.
//   - Nothing that a peer sends makes it panic.
//
// # Not translated
//
// Numbers in the text of prepared statements; COPY BINARY; the numbers of tables, functions and
// large objects; a frame of more than MaxHeld bytes.
package typemap
