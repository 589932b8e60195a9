// Package workload plays the applications of a database while it moves: clients
// that read and write, and remember what they were told.
//
// # What a client does
//
// A client opens one connection, sets up its session (search_path, time zone, a
// setting of its own, for some drivers a prepared statement), and then runs
// transactions one after the other until it is stopped. Each writes business
// data and, in the same transaction, its token into the ledger of package
// history. In between it reads: that its last acknowledged token is there once,
// that its session still is as it was set up, and whatever else the scenario
// reads. It uses unqualified names, so that a lost search_path is an error.
//
// Transactions come in three shapes: explicit ones (BEGIN, statements, COMMIT),
// one statement on its own, and several statements sent as one implicit
// transaction.
//
// # What it counts
//
// A connection is meant to last for the client's whole life: its loss is an
// error, and so is each error of the server and each read that misses something.
// After a loss the client connects again until it is stopped, so that a run goes
// on over a restart of what it talks to.
//
// An outcome is ok when the server said that it committed; failed when the
// server said otherwise, or when the connection was lost before the message that
// commits was sent; unknown when no answer to that message came. Nothing is ever
// sent twice, but by the clients of Keys: they try a request whose outcome they do not
// know again, as a new transaction with the same key.
//
// # Drivers
//
// pgx in its five query modes, and psql as a child process that is fed through
// its standard input and read line by line. Parameters are of built-in types
// only: the modes that keep descriptions send type oids, and those of an enum
// differ between two databases.
//
// Scenarios: Shop makes a small schema itself, in any size; Library one with every
// kind of key and most kinds of objects, for tests of a whole migration; Pagila needs
// the sample database of that name (LoadPagila); Lists runs serializable transactions that history
// looks for cycles in, some of which PostgreSQL refuses with a serialization failure; Registers,
// Bank and Keys are for its other checkers.
package workload
