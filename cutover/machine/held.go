package machine

import "strings"

// Held is the set of what an attempt has asked for and must give back should it end without a
// decision. A member is entered when it is asked for, not when it is granted: a call that failed
// may have succeeded.
type Held uint8

const (
	HeldGate       Held = 1 << iota // the gate is closed
	HeldSourceLock                  // the pre-lock on the closing side
	HeldTargetLock                  // the pre-lock on the opening side
	HeldFence                       // the fence; the journal's row has the truth
	HeldStream                      // the stream waits at the marker
	HeldStaged                      // warm servers with replayed sessions
	HeldSnapshots                   // verification snapshots on both sides
)

var heldNames = []struct {
	held Held
	name string
}{
	{HeldGate, "gate"}, {HeldSourceLock, "source_lock"}, {HeldTargetLock, "target_lock"}, {HeldFence, "fence"},
	{HeldStream, "stream"}, {HeldStaged, "staged"}, {HeldSnapshots, "snapshots"},
}

func (h Held) String() string {
	var names []string
	for _, n := range heldNames {
		if h&n.held != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ",")
}
