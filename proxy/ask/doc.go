// Package ask asks a database, or the server that it is on, what a proxy must know outside its
// sessions: which backend waits for which, what a backend does, the limits on connections, the
// types, and the settings that are pinned.
//
// # Invariants
//
//   - A question goes over a connection of the proxy's own, never over one that serves a client.
//   - Every name in a query is qualified, operators too: the search_path is the role's.
//   - No question waits for a lock that a session may hold for a long time, and none changes
//     anything.
package ask
