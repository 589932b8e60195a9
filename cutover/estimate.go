package cutover

import (
	"fmt"
	"time"
)

// What a pause is made of, beside the wait for open transactions. The numbers of round trips are those of the ports: a
// statement each, one after the other, from the closed gate to the open one.
const (
	closingTrips = 13 // expel, fence, two records, the marker on its way
	openingTrips = 7  // the marker applied, the decision
	eitherTrips  = 4  // sequences, catalogs, changed sessions and snapshots, side by side
	perTable     = 60 * time.Microsecond
	perSequence  = 45 * time.Microsecond
	fixedPause   = 20 * time.Millisecond // commits, and what the sessions themselves need
)

// estimate is how long the gate would be closed after the last open transaction has ended: from the round trips that
// were measured just now and the numbers of tables and sequences. 0 where a side was not measured.
func (a *account) estimate() time.Duration {
	closing, opening := a.census.RoundTrips[0], a.census.RoundTrips[1]
	if closing == 0 || opening == 0 {
		return 0
	}
	return fixedPause + closingTrips*closing + openingTrips*opening + eitherTrips*max(closing, opening) +
		time.Duration(a.tables)*perTable + time.Duration(len(a.sequences))*perSequence
}

// forecast says how long the pause would be, in words.
func (a *account) forecast(l Limits) string {
	text := "the pause cannot be estimated: a side did not answer"
	if e := a.estimate(); e > 0 {
		text = fmt.Sprintf("estimated pause: %v, and before it the time that open transactions take to end, at most --drain-timeout (%v)", e.Round(time.Millisecond), l.DrainTimeout)
	}
	if a.last != nil && a.last.PauseMS > 0 {
		text += fmt.Sprintf("; epoch %d, which has %s, paused for %.1f ms", a.last.Epoch, a.last.Outcome, a.last.PauseMS)
	}
	return text
}
