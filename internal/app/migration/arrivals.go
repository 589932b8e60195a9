package migration

import "sync"

// arrivals announces tables as they are copied. A listener that begins late, or again, gets all of
// them. Safe for concurrent use.
type arrivals struct {
	mu     sync.Mutex
	oids   []uint32
	seen   map[uint32]bool
	ended  bool
	most   int // tables there are
	listen chan uint32
}

func newArrivals(tables int) *arrivals { return &arrivals{most: tables, seen: map[uint32]bool{}} }

func (a *arrivals) add(oid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[oid] {
		return // copied once more
	}
	a.seen[oid] = true
	a.oids = append(a.oids, oid)
	if a.listen != nil {
		a.listen <- oid // has room for all
	}
}

// end says that no table is left.
func (a *arrivals) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	if a.listen != nil {
		close(a.listen)
		a.listen = nil
	}
}

// hear returns a channel that takes the place of an earlier one. It is closed
// when all tables are copied.
func (a *arrivals) hear() <-chan uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	ch := make(chan uint32, a.most)
	for _, oid := range a.oids {
		ch <- oid
	}
	if a.ended {
		close(ch)
	} else {
		a.listen = ch
	}
	return ch
}
