// Package pgcluster runs PostgreSQL clusters on this machine, for the demo and
// for tests.
//
// A cluster lives in a directory of its own, listens on 127.0.0.1 and on a
// socket in that directory, and runs without fsync, because its data are worth
// nothing. Its servers refuse to run as root: when the caller is root, they run
// as an unprivileged user who then owns the directory.
//
// Invariants:
//
//   - Close stops the servers and removes the directory. A cluster whose
//     process of origin dies is shut down by the kernel's parent-death signal
//     (Linux); only its directory is left then.
//   - The binaries are looked for in CROSSFADE_PG_BINDIR, in PATH, and in
//     /usr/lib/postgresql/*/bin (the highest version), in this order.
package pgcluster
