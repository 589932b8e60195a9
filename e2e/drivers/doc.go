// Package drivers runs PostgreSQL drivers as the package registries give them,
// each in a loop of its own through one connection, while a test moves that
// connection to and fro between two clusters.
//
// A loop is a program in the driver's language. Its protocol:
//
//   - PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE say where to connect,
//     CROSSFADE_LOOP names the loop, CROSSFADE_MODE the way to use the driver.
//   - It connects once. Its first line says {"driver": NAME, "version": VERSION},
//     then comes {"round": N, "operations": N} for each finished round, N counted
//     from the start. All lines go to the standard output.
//   - It ends with status 0 soon after its standard input is closed, and at the
//     first error with a line {"error": TEXT} and another status.
//   - A round reads only what cannot differ from side to side: the rows that the
//     test wrote to both, and what the same transaction wrote. It checks each value.
//
// The loops are started where their driver is installed and passed over where it
// is not; with CROSSFADE_DRIVERS=all a missing one fails. The script install
// brings all of them.
package drivers
