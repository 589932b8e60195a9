package session

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

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
