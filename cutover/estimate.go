package cutover

import (
	"fmt"
	"time"

	"crossfade/cutover/machine"
)

// The parts of a pause, in addition to the wait for open transactions. The numbers of round trips
// are those of the ports: a statement each, one after the other, from the closed gate to the open
// one.
const (
	closingTrips = 13 // expel, fence, two records, the marker on its way
	openingTrips = 7  // the marker applied, the decision
	eitherTrips  = 4  // sequences, catalogs, changed sessions and snapshots, concurrently
	perTable     = 60 * time.Microsecond
	perSequence  = 45 * time.Microsecond

	// A dry run writes nothing, so it measures no commit: the two records, the fence, the marker on
	// the target and the decision. Idle servers with a disk of their own need the first value, busy
	// ones the second.
	commits    = 5
	idleCommit = 4 * time.Millisecond
	busyCommit = 200 * time.Millisecond
	// busyTimes is how many times longer a round trip and the work for an object take on a busy
	// server than they do now.
	busyTimes = 3
)

// estimate is how long the gate would be closed after the last open transaction has ended, from the
// round trips that were measured just now and the numbers of tables and sequences: least with idle
// servers, and most with busy ones and a stream that lags as it does now. Both are 0 if a side was
// not measured.
func (a *account) estimate() (least, most time.Duration) {
	closing, opening := a.census.RoundTrips[0], a.census.RoundTrips[1]
	if closing == 0 || opening == 0 {
		return 0, 0
	}
	known := closingTrips*closing + openingTrips*opening + eitherTrips*max(closing, opening) +
		time.Duration(a.tables)*perTable + time.Duration(len(a.sequences))*perSequence
	least, most = known+commits*idleCommit, busyTimes*known+commits*busyCommit
	if a.lag != nil {
		most += a.lag.Delay
	}
	return least, most
}

// forecast puts into words how long the pause would be.
func (a *account) forecast(l machine.Limits) string {
	text := "the pause cannot be estimated: a side did not answer"
	if least, most := a.estimate(); least > 0 {
		text = fmt.Sprintf("estimated pause: %v to %v, by the round trips, tables and sequences of now; how long the servers take to commit in it is not known, and a load or a network that becomes worse is not in it; "+
			"before it comes the time that open transactions take to end, at most --drain-timeout (%v)", least.Round(time.Millisecond), most.Round(time.Millisecond), l.DrainTimeout)
	}
	if a.last != nil && a.last.PauseMS > 0 {
		text += fmt.Sprintf("; epoch %d, which has %s, paused for %.1f ms", a.last.Epoch, a.last.Outcome, a.last.PauseMS)
	}
	return text
}
