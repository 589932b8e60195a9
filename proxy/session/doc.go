// Package session is one client's session: a client, the server that serves it now, and between
// them the engine or two pumps. A Registry holds the sessions of one proxy, with what they share.
//
//	client ──read──> [Tracker, Sniffer: under mu] ──write──> server     (client's pump)
//	client <──write── [Tracker: under cw, mu] <──read── server          (server's pump)
//
// A pump reads once, lets the tracker observe the bytes and writes once. What is decoded is what a
// session must remember (memory). On the way to the server nothing is changed before a switch;
// after one, package rewrite and package typemap translate what differs. A moved session is told
// changed ParameterStatus values ahead of its next message. A session that is idle in the engine
// holds no buffer.
//
// # The engine
//
// On Linux a session that nobody wants has no pumps: an engine (package poll) does for many
// sessions what pumps do, as long as it can be done without waiting.
//
//		engine ── wanted; a write that would wait; an end; a server's last words ──> two pumps
//		engine <── some answers delivered at a boundary, and nobody wants it ─────── two pumps
//
//	  - The engine has Session.mu for the whole of a turn, read and write included. Anyone who
//	    has mu and calls handOver finds nothing half done, and is not met by the engine again.
//	  - What the engine has observed and not written, the pump writes first.
//	  - The pumps leave in turn, the client's first, and come back at once where the
//	    server's would otherwise wait in a write with nobody to read the client.
//
// # Parts
//
// What all see of a session is in shared, under mu, in named groups: who wants it to stop (hold),
// how the server fares (serving), the client's end (clientEnd), what the client's pump does while
// it may not forward (parking), what goes to the client first, what is remembered (memory) and the
// place in the engine (seat). Its methods belong to anyone who calls them: the two pumps, the
// Owner, who has the turn, and the View of anyone who asks about it.
//
// # Invariants
//
//   - A session is parked only at a boundary that was counted (wire.Tracker), with nothing observed
//     and not written. A COMMIT without an answer is not drained, and no statement is ever sent
//     twice.
//   - A session has one owner at a time (turn). The owner takes the server from its pump by a read
//     deadline, never by a write deadline, and gives it back as it was: what the server said of
//     itself meanwhile reaches the client, in order.
//   - No cancel request hits a probe: while an owner has the server, requests for it are dropped,
//     and no owner gets a server that one is on its way to. The request of a held client ends the
//     unit that is held, and only that.
//   - A parked session that is kept lives by its state (kept.go): a server that goes away under it
//     is not missed.
//   - A session whose client is gone stays in the registry until its server has answered
//     (abandoned.go): what nobody waits for is cancelled, and a drain can name it.
//   - Every client that is ended in an attempt is counted, no matter who ended it (struck.go).
//   - A panic is recovered at the session's boundary (Recovered), logged as a bug and counted.
//
// # Locks
//
// In the order in which they are taken: a session's turn; Registry.mu; Session.cw; Session.mu; last
// those of holds, struck, rewrite.Numbers and poll.Engine, under which nothing else is locked. No
// network is waited for under Registry.mu or Session.mu.
package session
