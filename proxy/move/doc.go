// Package move moves the sessions of a proxy to the other side while their clients keep their
// connections.
//
//	Stage    captures every session at a boundary, makes a warm server its mirror; sessions go on
//	Pause    closes the gate; sessions run on to their next boundary, unit by unit, and are parked
//	Restage  captures the sessions that sent anything since; takes LISTEN and advisory locks of all
//	Switch   routes; replays the differences; puts the warm server in the place of the old one
//	Resume   instead of Switch: every session continues where it was
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
//   - One verb runs at a time (begin), and belongs to an epoch; a newer epoch is a new attempt.
//   - LISTEN is taken over, and every advisory lock, before Restage returns: what is given back by
//     all sessions comes before what any session takes.
//   - Before Switch whatever fails is undone by Resume. After it nothing goes back: no byte of a
//     client is forwarded before its difference is replayed, and a session that cannot be made
//     whole ends with 57P01, which names the state.
//   - From the end of Restage on a parked session continues from its captured state: Switch does
//     not need its old server.
//   - A gate that Pause has closed is opened by Resume or Switch, by no timer.
//   - A parked session that holds a lock for which another session waits is allowed to continue as
//     long as that is so.
package move
