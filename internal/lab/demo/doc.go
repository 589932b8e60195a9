// Package demo shows a whole migration on one machine: two local clusters, an
// application that writes and reads through the proxy all the time, copy,
// follow, cutover, and then the proof.
//
// The source's role owns its tables and is no superuser; the target is like
// Neon (internal/lab/neonlike), with another superuser, and is reached through its front. The daemon is the one of
// `crossfade run`, within this process, told what to do over its control socket.
//
// Invariant: Run returns an error when a client met an error, or when an
// acknowledged transaction is not on the target exactly once, or a table differs.
package demo
