// Package netfault is a TCP relay that harms what passes through it, at run
// time and on request: for tests of the proxy, the replication and the
// cutover.
//
// A relay accepts connections and forwards each to one target. A connection
// pair is a link. For each direction of all links there is a Shape: a one-way
// delay, bandwidths, losses, and a stall.
//
//   - A delay holds each run of bytes for that time. Order is kept, and
//     throughput is not limited by it: bytes on the way are queued.
//   - A bandwidth spaces the writes out, for each link by itself or for all of
//     them together, as a line does that they share.
//   - A loss holds a link's bytes up by a round trip each time, as a segment does
//     that TCP has to send again. Nothing is missing in the end, nor reordered.
//   - A stall lets nothing through, not even the end of a connection, until
//     it is lifted; then everything arrives. That is what a network
//     partition shorter than TCP's own time limits looks like.
//
// Cut ends the links that exist, in one of these modes:
//
//	Reset         both ends get a RST
//	Finish        both ends get an orderly end of stream
//	ResetClient   the client gets a RST, the server's end stays open and silent
//	ResetServer   the server gets a RST, the client's end stays open and silent
//	Silence       both ends stay open, and every further byte vanishes
//
// The last three leave half-open connections: their quiet end is closed when
// that peer closes it, or by Run when it returns.
//
// Arm sets a trap: the link on which the n-th frame of a type passes is cut
// there, before the frame, within it or after it. Frames are those of the
// PostgreSQL protocol 3; the untyped packets at the start count as type 0.
// Frames are counted over all links from the moment of arming. On a link that
// is encrypted nothing can be counted, and traps stay silent.
//
// All methods may be called from any goroutine.
package netfault
