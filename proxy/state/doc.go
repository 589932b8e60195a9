// Package state captures the state that a session has on its server, and gives another server's
// session the same state: capture, compare, difference, replay.
//
//	source  --Capture-->  want ----+
//	                               +--Diff--> Plan --Replay--> target
//	target  --Capture-->  have ----+
//	target  --Capture-->  have',  Compare(want, have') must be empty
//
// What moves: settings, custom settings, role, prepared statements made by the protocol and by SQL,
// the unnamed statement, LISTEN, session-level advisory locks, client_encoding, and what RESET goes
// back to. What cannot move is named by State.Judge: temporary objects, cursors WITH HOLD and
// connections of dblink (hold), SET SESSION AUTHORIZATION and custom settings whose names are not
// known (red).
//
// Invariants:
//   - A Link never sends a simple Query: that would destroy the client's unnamed statement. It
//     parses under names of its own and closes them in the same round trip. It is used at a
//     boundary only.
//   - Whatever a Link runs is qualified with pg_catalog, operators and types too: the client owns
//     the search_path.
//   - A capture only reads. It does not change the session.
//   - State holds text in the encoding of the database, whatever the client's is.
//   - A plan runs in one order: encoding; locks and channels released; role "none" and what needs
//     the login role's rights; role; other settings; statements dropped, then prepared, one Sync
//     each; LISTEN; advisory locks; settings that could end or change the replay; the unnamed
//     statement.
//   - The text that contained an SQL PREPARE is never run again: it may contain other statements. A
//     single PREPARE is rebuilt from it, or the session does not move.
//   - A statement is parsed again under the settings of parsing that it was parsed under (Contexts,
//     Survey), and what it takes and returns is compared. A statement that cannot be parsed at
//     present is carried as Late and parsed when it is first used.
//   - Types of users are carried by (schema, name), and looked up again on the other side; their
//     OIDs differ.
//   - Replies of the server are as little trusted as those of a client: a link that sees what it
//     does not understand is broken, and its session ends.
//   - No error holds the value of a setting.
//
// Custom settings (app.tenant_id) are not listed by PostgreSQL, which only answers when asked by
// name. The names come from the client's statements and the values that it binds (Sniffer), its
// start-up options, once per database from the catalog (ReadCatalog), and from the operator. A
// statement that computes the name makes its session opaque; a function that does so makes every
// session of the database opaque.
//
// Limits: the number of times that an advisory lock is held is not visible, it is taken once
// (amber). A statement above 1 MiB that makes settings after its first mebibyte makes the session
// opaque. setseed, lastval and currval, and the insides of extensions do not move.
// docs/design/session-state.md has every kind of state.
package state
