package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// SessionNote is one session as a report names it. It holds no secret and no
// statement.
type SessionNote struct {
	Session  uint64 `json:"session"`
	PID      uint32 `json:"pid"` // as the client knows it
	User     string `json:"user"`
	Database string `json:"database"`
	Client   string `json:"client"` // address
	Code     string `json:"code"`   // stable, for machines
	Detail   string `json:"detail"`
	// Application is the name that the client gives itself, and ServerPID the process that serves it.
	Application string `json:"application_name"`
	ServerPID   int32  `json:"server_pid"`
}

func (n SessionNote) String() string {
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

// StageReport is the outcome of Stage and Restage.
type StageReport struct {
	Sessions int           `json:"sessions"`
	Captured int           `json:"captured"` // looked at in this call
	Staged   int           `json:"staged"`   // that have a warm server which is their mirror
	Unstaged []SessionNote `json:"unstaged"` // without a boundary in time; left to the pause
	Amber    []SessionNote `json:"amber"`    // that move with a loss
	// Unmovable are the sessions that cannot be moved and that the policy lets be: waited
	// for, to be disconnected (by Restage) or named. With UnmovableAbort they are the error.
	Unmovable    []SessionNote `json:"unmovable"`
	Disconnected int           `json:"disconnected"` // of these, ended by this call
	Took         time.Duration `json:"-"`
}

// PauseReport is the outcome of Pause.
type PauseReport struct {
	Sessions int           `json:"sessions"`
	Waiting  int           `json:"waiting"` // logins that wait at the gate
	Took     time.Duration `json:"-"`       // from the gate's closing until all stood still
}

// SwitchReport is the outcome of Switch.
type SwitchReport struct {
	Moved        int           `json:"moved"`
	ClientErrors int           `json:"client_errors"` // clients that were ended since the attempt began, see Failed
	Failed       []SessionNote `json:"failed"`
	Held         Held          `json:"held"`
	Took         time.Duration `json:"-"`
}

// Held tells how long clients waited: from the first byte that was held back to
// the first that was forwarded again.
type Held struct {
	Sessions int     `json:"sessions"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
}

// Status is a picture of the proxy.
type Status struct {
	Active        string `json:"active"`
	Epoch         int64  `json:"epoch"`
	Sessions      int    `json:"sessions"`
	Streams       int    `json:"streams"` // replication connections; not among Sessions
	InTransaction int    `json:"in_transaction"`
	Parked        int    `json:"parked"`
	Waiting       int    `json:"waiting"`       // logins at the closed gate
	Closed        bool   `json:"closed"`        // the gate is closed
	Strangers     int    `json:"strangers"`     // connections that have not authenticated
	Crowded       int64  `json:"crowded"`       // those of them that had to give way to others, since the start
	ClientErrors  int64  `json:"client_errors"` // clients that were ended in attempts, since the start
	Revived       int64  `json:"revived"`       // sessions whose idle server went away and that go on with another
	Disconnected  int64  `json:"disconnected"`  // sessions that could not be moved and were ended
	Orphans       int64  `json:"orphans"`       // statements that were cancelled because nobody was there any more to take their answer
	Panics        int64  `json:"panics"`
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// holds collects how long clients were held since the last pause began. Safe for
// concurrent use.
type holds struct {
	mu   sync.Mutex
	list []time.Duration
}

func (h *holds) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = nil
}

func (h *holds) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, d)
}

// take is report, and begins anew.
func (h *holds) take() Held {
	held := h.report()
	h.reset()
	return held
}

func (h *holds) report() Held {
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
