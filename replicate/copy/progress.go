package copy

import (
	"sync"

	"crossfade/internal/base/lists"
)

// Progress is how far a Run has come. Bytes are those of the tables on the source's disk, TOAST
// included, so that done reaches total; the bytes of a relation that restarts are subtracted again.
// Relayed counts what was sent over the network.
type Progress struct {
	TablesDone, TablesTotal int
	BytesDone, BytesTotal   int64
	RowsDone                int64
	Relayed                 int64
	Restarts                int   // relations that began again, with nothing kept
	Repaired                int   // relations whose changed rows were fetched again; earlier Runs count too
	RepairedKeys            int64 // of these
	Retries                 int   // chunks and logins that were tried again
	Waiting                 error // *TableError of a table that waits for someone to fix it, nil for none
}

type counters struct {
	mu   sync.Mutex
	p    Progress
	live int64 // bytes of chunks under way, at most their share
	wait map[*relation]error
}

func (c *counters) change(f func(*Progress)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.p)
}

func (c *counters) read() Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.p
	p.BytesDone = min(p.BytesDone+c.live, p.BytesTotal)
	for _, err := range c.wait { // one is enough: each is named in its turn
		p.Waiting = err
		break
	}
	return p
}

// waits notes what a relation waits for, and reports whether that is new.
func (c *counters) waits(r *relation, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.wait[r]
	lists.Put(&c.wait, r, err)
	return before == nil || before.Error() != err.Error()
}

// goesOn forgets it.
func (c *counters) goesOn(r *relation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.wait, r)
}

// flight counts the bytes of one attempt at a chunk until it has landed or not.
type flight struct {
	c     *counters
	share int64   // of the relation's bytes
	moved int64   // of the share, counted as live
	bytes int64   // over the wire
	ends  []int64 // bytes over the wire at the end of each table of a batch
}

func (f *flight) add(n int) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.bytes += int64(n)
	f.c.p.Relayed += int64(n)
	more := min(int64(n), f.share-f.moved)
	f.moved += more
	f.c.live += more
}

func (f *flight) end() {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.live -= f.moved
	f.moved, f.share = 0, 0
}

// landed counts a chunk of a relation.
func (c *counters) landed(r *relation, bytes, rows int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.bytes += bytes
	r.rows += rows
	c.p.BytesDone += bytes
	c.p.RowsDone += rows
}

// takeBack forgets what a relation had, and takes its new size.
func (c *counters) takeBack(r *relation, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.p.BytesDone -= r.bytes
	c.p.RowsDone -= r.rows
	c.p.BytesTotal += size - r.size
	r.size, r.bytes, r.rows = size, 0, 0
}

// copied rounds a relation up to the whole of its bytes, and to its rows where they are known.
func (c *counters) copied(r *relation, rows int64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known {
		c.p.RowsDone += rows - r.rows
		r.rows = rows
	}
	c.p.BytesDone += r.size - r.bytes
	r.bytes = r.size
	c.p.TablesDone++
}
