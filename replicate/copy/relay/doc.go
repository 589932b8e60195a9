// Package relay passes the rows of a COPY from the source's connection to the target's, as bytes:
// no value is decoded. One goroutine reads (CopyOut), another writes (CopyIn), and a few buffers
// circulate between them. A Limiter bounds the bytes of all relays together.
//
// Invariants:
//
//   - Every byte of rows arrives once and in order, or the target's COPY fails: it succeeds only
//     after the source's has.
//   - Whichever side ends first, the other one is released.
//   - A relay that was stopped for a waiting session passes nothing on any more, and never
//     succeeds.
//   - Between chunks nothing is allocated: a worker keeps its buffers.
package relay
