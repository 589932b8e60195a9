// Package route holds the two decisions that every login needs: whether it may continue (Gate), and
// to which side (Router).
//
// The gate is open or closed. A login that enters an open gate gets a lease, which it keeps from
// before it dials its server until the session is registered after the first ReadyForQuery. While
// the gate is closed logins wait in Enter. A caller that closes the gate and then sees Drained
// return knows that no server connection is being made, and that none will be until it opens the
// gate:
//
//	        Close                    Drained returns
//	open ----------> closed, leases ----------------> closed, none
//	  ^                    |                               |
//	  +--------------------+------------- Open ------------+
//
// Each Close starts a new generation. Open names the generation that it ends, so that a late Open
// of an earlier attempt cannot open a gate that was closed since.
//
// The router holds one immutable Route: the epoch and the endpoint that new servers are dialled at.
// Its epoch never goes back, and within one epoch the endpoint does not change.
package route
