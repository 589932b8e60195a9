// Package obs builds what the program reports about itself: logs and metrics.
//
// # Rules
//
//   - Messages are lower-case and constant; what varies is in fields whose names are the Key
//     constants of this package.
//   - No secret reaches a field: connections are named by host, port, user and database, never by
//     their DSN, and statements and parameters of clients are not logged at level info or above.
//   - Metrics live in a registry made by NewRegistry, never in the library's global one, so that
//     two daemons in one test do not collide. Names begin with "crossfade_" and contain their unit.
package obs
