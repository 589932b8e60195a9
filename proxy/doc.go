// Package proxy is the wire proxy in front of the applications. It serves each
// client by one server connection of its own, and moves every live session to the
// other side while the client keeps its connection.
//
// # A session
//
//	accept → TLS, cancel → start-up packet → who is it (auth) → Gate.Enter → dial → greeting → two pumps
//
//	client ──read──> [Tracker, Sniffer: under mu] ──write──> server     (client's pump)
//	client <──write── [Tracker: under cw, mu] <──read── server          (server's pump)
//
// A pump reads once, has the tracker observe the bytes and writes once. Nothing is
// decoded and nothing is changed on the way to the server. On the way to the client
// a moved session has the pid of its notifications translated, and is told changed
// ParameterStatus values ahead of its next message. A plaintext session that is idle
// holds no buffer.
//
// # The engine
//
// On Linux a plaintext session that nobody wants has no pumps: an engine (engine.go)
// does for many sessions what pumps do, as long as it can be done without waiting.
//
//		engine ── wanted; a write that would wait; an end; a server's last words ──> two pumps
//		engine <── some answers delivered at a boundary, and nobody wants it ─────── two pumps
//
//	  - The engine has relay.mu for the whole of a turn, read and write included. Whoever
//	    has mu and calls handOver finds nothing half done, and is not met by the engine again.
//	  - What the engine has observed and not written, the pump writes first.
//	  - The pumps leave in turn, the client's first, and come back at once where the
//	    server's would otherwise wait in a write with nobody to read the client.
//
// # A login
//
// Until it has proved who its client is, a connection is a stranger: bounded in time
// (LoginTimeout), in bytes, and in number by address and in all. The oldest stranger gives way to
// a new one, so that half-open connections push out each other and no good client.
// What logs a session in at a side is what Endpoint.Credentials knows or, where the
// side's servers keep the same secrets, the client's own proof, which stays in the
// memory of its session. A server that says "in a moment" is asked again for a few
// seconds (dialPolicy); what it says of our credentials is not put on the client.
//
// # A move
//
//	Stage    captures every session at a boundary, makes a warm server its mirror; sessions go on
//	Pause    closes the gate; sessions run on to their next boundary, unit by unit, and are parked
//	Restage  captures again what sent anything since; LISTEN and advisory locks, of all
//	Switch   routes; replays the differences; puts the warm server in the place of the old one
//	Resume   instead of Switch: everybody goes on where they were
//
// States of a session while that happens:
//
//	            hold                      boundary, nothing on its way
//	running ───────────> draining ──────────────────────────────────────> parked
//	   ^                    │ (units of its transaction go on)               │
//	   │      Resume        │                                                │ Switch
//	   ├────────────────────┴────────────────────────────────────────────────┤
//	   └──────────────────────────── on the new server <── swap <── replay <─┘
//
// # Invariants
//
//   - A session is parked only at a boundary that was counted (wire.Tracker), with
//     nothing observed and not written. A COMMIT without an answer is not drained,
//     and no statement is ever sent twice.
//   - A session has one owner at a time (turn). The owner takes the server from its
//     pump by a read deadline, never by a write deadline, and gives it back as it was:
//     what the server said of itself meanwhile reaches the client, in order.
//   - No cancel request hits a probe: while an owner has the server, requests for
//     it are dropped, and no owner gets a server that one is on its way to. The
//     request of a held client ends the unit that is held, and only that.
//   - LISTEN is taken over, and every advisory lock, before Restage returns: what is
//     given back by all sessions comes before what is taken by any.
//   - Before Switch whatever fails is undone by Resume. After it nothing goes back:
//     no byte of a client is forwarded before its difference is replayed, and a
//     session that cannot be made whole ends with 57P01, which names the state.
//   - From the end of Restage on a parked session lives by its state (kept.go): a server that
//     goes away under it is not missed by Switch.
//   - A session whose client is gone stays in the registry until its server has answered
//     (orphan.go): what nobody waits for is cancelled, and a drain can name it.
//   - Every client that is ended in an attempt is counted, whoever ended it (struck.go).
//   - A gate that Pause has closed is opened by Resume or Switch, by no timer. A client
//     held beyond HoldLimit gets 57P03; what it asked for was run nowhere.
//   - A login holds a lease from before its dial until its session is registered. At
//     the closed gate clients prove who they are, and wait before the dial.
//   - A hostile peer ends its own session. A panic is recovered at the session's
//     boundary (recovered), logged as a bug and counted.
//
// # Locks
//
// In the order in which they are taken: a relay's turn; Proxy.mu; relay.cw; relay.mu;
// last holds.mu, Proxy.pids, engine.mu, under which nothing else is locked. No network is
// waited for under Proxy.mu or relay.mu.
//
// # Limitations
//
//   - Replication connections (stream.go) are passed on to the source byte by byte and
//     cannot be moved: they make an attempt abort, or are disconnected by it. Behind a
//     switch they are refused.
//   - A session that waits for an advisory lock of one that is parked keeps the pause
//     from being reached until that one's client gives it back: it is let go on for that
//     (drain.go). Where it does not, the drain ends at its bound and names both.
//   - Numbers of users' types are the source's on both sides (typemap), but for what
//     that package names.
//   - Notifications sent beside the proxy between Restage and Switch may be lost.
package proxy
