// Package session serves one client's session: a client, the server that serves it now, and between
// them the engine or two pumps. A Registry holds the sessions of one proxy, with what they share.
//
//	client ──read──> [Tracker: under mu] ──write──> server              (client's pump)
//	client <──write── [Tracker: under cw, mu] <──read── server          (server's pump)
//
// A pump reads once, lets the tracker walk over the bytes and writes once what it returns. The
// tracker shows them to the sniffer and, after a switch, to the Filter (packages rewrite and
// typemap), which changes what differs. Only what a session must remember (observed) is decoded. A moved session is sent
// changed ParameterStatus values before its next message. A session that is idle in the engine
// holds no buffer.
//
// # The engine
//
// On Linux a session has no pumps as long as nothing needs it to stop: the engine (package poll)
// does for many sessions what pumps do, as long as that needs no waiting. A session is attached to
// the engine or served by its pumps, never both (attachment).
//
//		engine ── a caller wants it; a write would block; a connection ends; a FATAL ──> two pumps
//		engine <── some answers delivered at a boundary, and no caller wants it ──────── two pumps
//
//	  - The engine holds Session.mu for a whole turn, read and write included. A caller that holds mu
//	    and calls handOver finds nothing half done, and the engine does not touch the session after
//	    that.
//	  - Bytes that the engine has observed and not written are written first by the pump.
//	  - The pumps end one after the other, the client's first. They are started again at once if the
//	    server's would otherwise block in a write while nothing reads the client.
//
// # Parts
//
// What all parts see of a session is in shared, under mu, in named groups: what wants it to stop
// (hold), the state of the server (serving), the client's end (clientEnd), what the client's pump
// does while it may not forward (parking), what is sent to the client first, what was observed, and
// the attachment to the engine. Methods are grouped by their callers: the two pumps, the Owner,
// which has the turn, and the View for callers that only ask.
//
// # Invariants
//
//   - A session is parked only at a boundary that was counted (wire.Tracker), with nothing observed
//     and not written. A COMMIT without an answer is not drained, and no statement is ever sent
//     twice.
//   - A session has one owner at a time (turn). The owner takes the server from its pump by a read
//     deadline, never by a write deadline, and gives it back unchanged: what the server reported of
//     itself meanwhile reaches the client, in order.
//   - No cancel request hits a probe: while an owner has the server, requests for it are dropped,
//     and no owner gets a server while a request is on its way to it. The request of a held client
//     ends the unit that is held, and only that.
//   - A parked session that is kept continues from its captured state (revive.go): the loss of its
//     server does not matter.
//   - A session whose client is gone stays in the registry until its server has answered
//     (abandoned.go): a statement for which no client waits is cancelled, and a drain can name the
//     session.
//   - Every client that is ended in an attempt is counted, no matter what ended it (Struck).
//   - A panic is recovered at the session's boundary (Recovered), logged as a bug and counted.
//
// # Locks
//
// In the order in which they are taken: a session's turn; Registry.mu; Session.cw; Session.mu; last
// those of holds, struck, rewrite.Numbers and poll.Engine, under which nothing else is locked. The
// network is never waited for under Registry.mu or Session.mu.
package session
