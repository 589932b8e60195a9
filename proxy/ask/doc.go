// Package ask asks a database, or the server that it is on, what a proxy must know beside its sessions: who waits for
// whom, what a backend does, what limits connections have, which types there are, what is pinned.
//
// # Invariants
//
//   - A question goes over a connection of the proxy's own, never over one that serves a client.
//   - Every name in a query is qualified, operators too: the search_path is the role's.
//   - No question waits for a lock that a session may hold for long, and none changes anything.
package ask
