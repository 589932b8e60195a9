// Package pg holds the small PostgreSQL vocabulary that all packages share: log sequence numbers,
// quoted identifiers, connection strings, SQLSTATEs, snapshots, and the one way in which Crossfade
// opens a session of its own.
//
// Invariants:
//
//   - A password never leaves a DSN through String, Redacted, an error or a child's argument list;
//     only Config and LibpqEnv return it, to the driver and to the environment of a child process.
//   - A DSN that leads to a host of Neon verifies its certificate and binds the password exchange
//     to the channel, unless it explicitly says otherwise (harden).
//   - A session opened by Connect has every time limit of the server switched off and pins the
//     settings that change how a value is written as text (textSettings), so that text written by
//     one server reads the same on another, whatever a database, a role or a pooler in between
//     sets. The server notices within a minute that we are gone, so that our locks do not outlive
//     us by the hours of TCP's own defaults.
//
// A query whose rows go to pgx.CollectRows or pgx.ForEachRow leaves its error to these: the rows of
// a failed query hold it, and both return it.
package pg
