package netfault

import "sync"

// WholeFrame as a Trap's Within lets the frame through and cuts after it.
const WholeFrame = -1

// Trap names the frame at which a link is cut.
type Trap struct {
	Direction Direction
	Type      byte // the frame's type byte; 0 for the untyped packets of the start-up
	N         int  // the n-th such frame since arming; 0 and 1 both mean the next one
	Within    int  // bytes of the frame that still pass: 0 none, WholeFrame all
	Mode      Mode
}

// armed is a trap in wait. It fires once.
type armed struct {
	Trap
	fired chan struct{}
}

// traps are the armed traps of a relay.
type traps struct {
	mu  sync.Mutex
	set []*armed
}

func (t *traps) arm(tr Trap) <-chan struct{} {
	a := &armed{Trap: tr, fired: make(chan struct{})}
	if a.N < 1 {
		a.N = 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = append(t.set, a)
	return a.fired
}

func (t *traps) disarm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = nil
}

// frame counts the beginning of a frame and returns the trap that it springs.
func (t *traps) frame(d Direction, typ byte) *armed {
	t.mu.Lock()
	defer t.mu.Unlock()
	var hit *armed
	kept := t.set[:0]
	for _, a := range t.set {
		if a.Direction == d && a.Type == typ && hit == nil {
			if a.N--; a.N == 0 {
				hit = a
				continue
			}
		}
		kept = append(kept, a)
	}
	t.set = kept
	return hit
}
