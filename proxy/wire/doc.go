// Package wire is the frontend/backend protocol, version 3: framing, start-up packets, guarded
// encoding and decoding, and the Tracker, which knows when a session may move.
//
// # The boundary is counted
//
// A Tracker keeps the client's requests that the server has not answered, in order, and matches
// each reply with the request at the head:
//
//	Query, FunctionCall, Sync          ReadyForQuery
//	Parse, Bind, Close                 ParseComplete, BindComplete, CloseComplete
//	Describe                           RowDescription or NoData
//	Execute                            CommandComplete, EmptyQueryResponse or PortalSuspended
//	CopyDone, CopyFail                 no reply: it ends the data of the COPY that runs
//
// A session is at a boundary when the queue is empty, the last ReadyForQuery said 'I', no extended
// message is without its Sync, no COPY runs, and neither direction has a frame of which only a part
// was forwarded. The rules that make this exact:
//
//   - An error in an extended message makes the server discard everything up to the next Sync, a
//     Query included. The discarded requests leave the queue; while no Sync has been sent, later
//     requests do not enter it.
//   - During COPY FROM STDIN the server ignores Sync. Those that were sent before the end of the
//     data (also before the server's CopyInResponse) leave the queue. A unit of the extended
//     protocol is then open until a Sync after the data.
//   - CopyDone and CopyFail outside a COPY are ignored by the server.
//   - An error in a COPY leaves open which of those Syncs the server read after it. The number of
//     ReadyForQuery to come is then an interval (doubt). A reply that no Sync can have, to a
//     request that was sent later, proves that they have all been handled; until then the count is
//     uncertain and there is no boundary.
//   - Replies that fit no request (an error between two messages of a unit, a peer that breaks the
//     protocol) make the count uncertain: the bytes are still forwarded, and there is no boundary
//     until Settle.
//
// Which unnamed statement a session has follows from the same queue: a Parse counts when its
// ParseComplete comes.
//
// # The bytes are walked over once
//
// A Tracker cuts the frames of each direction as they come, and is the only one to do so. It counts
// them, shows the bodies of the client's to a Follower and, where there is a Filter, lets that
// change frames: those of the types that it asks for are held back until they are whole, all others
// pass as they come. What the Filter returns is what is forwarded. The result does not depend on how
// the bytes are cut into reads (FuzzTracker; FuzzWalk in package rewrite). Bytes that are in memory
// as a whole are taken apart by Cut.
//
//	client's bytes ── Follower, Filter.Ahead, count, Filter.ClientFrame ──> server
//	client <── count, Filter.ServerFrame ─────────────────────────────── server's bytes
//
// # Peers are hostile
//
// Every length is checked before memory is taken. Start-up packets are read to the byte, since TLS
// may follow. The Decode functions walk all lengths of a body before they decode it and never
// panic. pgproto3/v2 is imported by this package alone, and of it only Encode, and Decode of single
// bodies that have been walked: its Receive takes the announced length at its word, its Bind,
// DataRow and SASLInitialResponse decoders panic on bodies that a peer can send, and its
// AuthenticationSASL decoder may not return. Start-up packets, NegotiateProtocolVersion and cancel
// keys of more than four bytes, which it does not know, are written here.
package wire
