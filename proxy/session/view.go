package session

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// States of a session, as Sessions shows them.
const (
	StateIdle        = "idle"           // at a boundary
	StateActive      = "active"         // a reply is outstanding
	StateTransaction = "in_transaction" // between two statements of one
	StateParked      = "parked"         // held at the closed gate
	StateWaiting     = "waiting"        // parked, with a request of the client held
	StateReviving    = "reviving"       // its server is gone, another one is being made
	StateLeft        = "client_gone"    // its client has left, and its server is still at work
	StateReplication = "replication"    // a stream of its own kind
)

// VerdictUnknown is the verdict on a session that was never captured.
const VerdictUnknown = "unknown"

// Info is one session as status shows it. It holds names, no values and no statements.
type Info struct {
	Session         uint64
	PID             uint32 // as the client knows it
	Client          string // address
	User            string // as the client knows them
	Database        string
	ApplicationName string
	Side            string // Source or Target
	ServerPID       int32
	Began           time.Time
	State           string
	Since           time.Time // of the state, to the second
	Verdict         string    // green, amber, hold, red or VerdictUnknown
	Reasons         []state.Reason
	// Checked is when the verdict was found. Stale says that the client has sent something since.
	Checked time.Time
	Stale   bool
}

// String names the session, with the reasons why it cannot be moved.
func (s Info) String() string {
	var why []string
	for _, r := range s.Reasons {
		if !r.Verdict.Movable() {
			why = append(why, r.Detail)
		}
	}
	return Note{Session: s.Session, User: s.User, Client: s.Client, Application: s.ApplicationName, ServerPID: s.ServerPID, Detail: strings.Join(why, "; ")}.String()
}

// judged is the last verdict on a session.
type judged struct {
	verdict state.Verdict
	reasons []state.Reason
	frames  uint64
	at      time.Time // zero: never
	whole   bool      // it can be made again on another server of the same side
}

// noFrames is no number of frames that a client has sent.
const noFrames = math.MaxUint64

// past makes the verdict one of the past, which is shown until there is a newer one and on
// which nothing else rests.
func (j *judged) past() { j.frames, j.whole = noFrames, false }

// seen is a session's state when it was last sampled.
type seen struct {
	state  string
	frames uint64
	since  time.Time
}

// Known is info, with the verdict on sessions whose role cannot log in on the other side: that
// needs no capture.
func (r *View) Known() Info {
	s := r.info()
	if s.Side != side.Source {
		return s // after the switch no session has to move
	}
	if _, err := r.p.Sides.Target.Account(r.User, r.Proof); err != nil {
		s.Verdict, s.Stale = state.Red.String(), false
		s.Reasons = append([]state.Reason{{Verdict: state.Red, Code: "credentials", Detail: err.Error()}}, s.Reasons...)
		if s.Checked.IsZero() {
			s.Checked = time.Now()
		}
	}
	return s
}

func (r *View) info() Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observe(time.Now())
	s := Info{Session: r.Id, PID: r.pid, Client: r.client.RemoteAddr().String(), User: r.User, Database: r.Database,
		ApplicationName: r.mu.observed.params["application_name"], Side: r.mu.server.endpoint.Name, ServerPID: r.mu.server.pid.Load(),
		Began: r.began, State: r.mu.seen.state, Since: r.mu.seen.since, Verdict: VerdictUnknown}
	if j := r.mu.judged; !j.at.IsZero() {
		s.Verdict, s.Reasons, s.Checked = j.verdict.String(), j.reasons, j.at
		s.Stale = j.frames != r.mu.tracker.ClientFrames()
	}
	return s
}

// observe notes the session's state. Called with mu locked.
func (r *View) observe(now time.Time) {
	s := seen{state: r.state(), frames: r.mu.tracker.ClientFrames(), since: now}
	if r.mu.seen.state == "" {
		s.since = r.began
	}
	if s.state != r.mu.seen.state || s.frames != r.mu.seen.frames {
		r.mu.seen = s
	}
}

// state says what the session does. Called with mu locked.
func (r *View) state() string {
	why := r.mu.tracker.Reason()
	switch {
	case r.mu.serving.reviving:
		return StateReviving
	case r.mu.end.dead && why != "":
		return StateLeft
	case r.mu.hold.gate && r.mu.parking.waiting && why == "":
		return StateWaiting
	case r.mu.hold.gate && r.still():
		return StateParked
	case why == wire.ReasonTransaction:
		return StateTransaction
	case why == "":
		return StateIdle
	}
	return StateActive
}

// judge keeps the verdict on what was captured. Called with mu locked.
func (r *View) judge(s *state.State, frames uint64) {
	j := judged{frames: frames, at: time.Now()}
	j.verdict, j.reasons = s.Judge()
	j.whole = wholeAgain(s)
	r.mu.judged = j
}

// Unjudged reports whether a capture now would tell more than is known.
func (r *View) Unjudged() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.mu.hold.gate && r.reason() == "" && (r.mu.judged.at.IsZero() || r.mu.judged.frames != r.mu.tracker.ClientFrames())
}

// Unknown reports whether nothing is known of the session, and it is not held.
func (r *View) Unknown() bool {
	return r.mu.locked(func() bool { return !r.mu.hold.gate && r.mu.judged.at.IsZero() })
}

// Parked reports that the gate holds the session at a boundary. One that has ended is
// at rest as well.
func (r *View) Parked() bool {
	return r.mu.locked(func() bool { return r.ctx.Err() != nil || r.mu.hold.gate && r.reason() == "" })
}

// Busy says what keeps a session from standing still.
func (r *View) Busy() (Note, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := r.reason()
	if why == "" || r.ctx.Err() != nil {
		return Note{}, false
	}
	if why == wire.ReasonTransaction && r.mu.tracker.Status() == 'E' {
		why = reasonAborted
	}
	return r.noted("busy", why), true
}

// reasonAborted is why a session is busy whose transaction has failed.
const reasonAborted = "in an aborted transaction, which can only be rolled back"

// Resting reports that the session is at a boundary now.
func (r *View) Resting() bool {
	return r.mu.locked(func() bool { return r.reason() == "" })
}

// KnownUnmovable reports that the last look at the session, with nothing sent since, has
// found what cannot be moved: it needs no connection.
func (r *View) KnownUnmovable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := &r.mu.judged
	return !j.at.IsZero() && !j.verdict.Movable() && j.frames == r.mu.tracker.ClientFrames()
}

// Sample records the state that the session is in now.
func (r *View) Sample(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observe(now)
}

// IdleSince reports whether the session was idle when it was last sampled, and had been since then.
func (r *View) IdleSince(then time.Time) bool {
	return r.mu.locked(func() bool { return r.mu.seen.state == StateIdle && !r.mu.seen.since.After(then) })
}

// Waits reports that bytes of the client are held.
func (r *View) Waits() bool {
	return r.mu.locked(func() bool { return r.mu.parking.waiting })
}

// Stands says whether the session is within a transaction, and whether the gate holds it at a
// boundary.
func (r *View) Stands() (inTransaction, parked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.tracker.Status() != 'I', r.mu.hold.gate && r.still()
}

// Note is one session as a report names it. It holds no secret and no statement.
type Note struct {
	Session  uint64 `json:"session"`
	PID      uint32 `json:"pid"` // as the client knows it
	User     string `json:"user"`
	Database string `json:"database"`
	Client   string `json:"client"` // address
	Code     string `json:"code"`   // stable, for machines
	Detail   string `json:"detail"`
	// Application is the name that the client gives itself, and ServerPID the process that serves
	// it.
	Application string `json:"application_name"`
	ServerPID   int32  `json:"server_pid"`
}

func (n Note) String() string {
	who := fmt.Sprintf("session %d of %s from %s", n.Session, n.User, n.Client)
	var more []string
	if n.Application != "" {
		more = append(more, fmt.Sprintf("application %q", n.Application))
	}
	if n.ServerPID != 0 {
		more = append(more, fmt.Sprintf("server process %d", n.ServerPID))
	}
	if len(more) > 0 {
		who += " (" + strings.Join(more, ", ") + ")"
	}
	return who + ": " + n.Detail
}

// Held tells how long clients waited: from the first byte that was held back to
// the first that was forwarded again.
type Held struct {
	Sessions int     `json:"sessions"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
}

// holds collects how long clients were held since the last pause began. Safe for concurrent use.
type holds struct {
	mu   sync.Mutex
	list []time.Duration
}

func (h *holds) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = nil
}

func (h *holds) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, d)
}

// Take is report, and begins with nothing again.
func (h *holds) Take() Held {
	held := h.Report()
	h.Reset()
	return held
}

func (h *holds) Report() Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.list)
	if n == 0 {
		return Held{}
	}
	slices.Sort(h.list)
	ms := func(i int) float64 { return float64(h.list[i].Microseconds()) / 1000 }
	return Held{Sessions: n, P50: ms((n - 1) / 2), P99: ms((n - 1) * 99 / 100), Max: ms(n - 1)}
}
