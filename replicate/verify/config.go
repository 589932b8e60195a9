package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// Defaults of Config.
const (
	DefaultJobs       = 2
	DefaultChunkBytes = 256 << 20 // some seconds of hashing
	DefaultSample     = 20        // keys per table: enough to see a pattern
	// DefaultLockTimeout is below deadlock_timeout; see DESIGN C13.
	DefaultLockTimeout = 200 * time.Millisecond
	// DefaultPatience bounds how long one part of a table may be locked by the
	// application, or a server be away, before the comparison ends.
	DefaultPatience = 10 * time.Minute
	// GentleRest and GentleChunkBytes are for servers that applications use: with one session, at most
	// a fifteenth of one core's time, in reads of a fraction of a second. With nine, a source of two
	// cores that it shared with the target lost 11 % of its transactions.
	GentleRest       = 14
	GentleChunkBytes = 8 << 20
)

// Table is one relation that holds rows, on both sides, or a partitioned table whose
// leaves are compared as one, since a row may be in another leaf of the other side.
type Table struct {
	Name    pg.Name
	Leaves  []pg.Name // of a partitioned table, on both sides; nil for the table itself
	Columns []string  // all that are compared, stored generated ones included
	Key     []string  // of the primary key or replica identity; may be empty
}

// files are the relations that hold the table's rows.
func (t Table) files() []pg.Name {
	if t.Leaves != nil {
		return t.Leaves
	}
	return []pg.Name{t.Name}
}

// Config says what is compared, and how hard.
type Config struct {
	Tables      []Table
	Jobs        int           // sessions on each side; DefaultJobs if 0
	ChunkBytes  int64         // of a table's size on disk; DefaultChunkBytes if 0
	Sample      int           // differing keys named per table; DefaultSample if 0
	LockTimeout time.Duration // DefaultLockTimeout if 0
	Patience    time.Duration // DefaultPatience if 0
	// Rest is how many times the duration of a read a session rests after it; 0 for not at all.
	Rest float64
	// SearchPath is what both sides are read under, as SET takes it; pg_catalog alone if "". The
	// server evaluates a table's index expressions when it plans a read, and bodies of functions
	// find names by it.
	SearchPath string
	// Since, if set, says that the sides were equal earlier, when the target saw this, and
	// that the target has been written since: see the package comment.
	Since *pg.Snapshot
	// Settled, if set, is told of each table as soon as it is judged, by several goroutines.
	Settled func(Result)
	Log     zerolog.Logger
}

// Validate fills defaults in and refuses what contradicts itself.
func (c *Config) Validate() error {
	c.Jobs = cmp.Or(c.Jobs, DefaultJobs)
	c.ChunkBytes = cmp.Or(c.ChunkBytes, DefaultChunkBytes)
	c.Sample = cmp.Or(c.Sample, DefaultSample)
	c.LockTimeout = cmp.Or(c.LockTimeout, DefaultLockTimeout)
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	if c.Jobs < 0 || c.ChunkBytes < 0 || c.Sample < 0 || c.Patience < 0 || c.Rest < 0 || c.LockTimeout < time.Millisecond {
		return errors.New("verify: negative bound or rest, or lock timeout below 1ms")
	}
	seen := map[pg.Name]bool{}
	for _, t := range c.Tables {
		if t.Name.Name == "" || seen[t.Name] {
			return fmt.Errorf("verify: table %q has no name or is listed twice", t.Name.Display())
		}
		seen[t.Name] = true
	}
	return nil
}

// Frozen is a snapshot of each side, taken at an equal state. The caller closes
// it when the comparison has ended.
type Frozen struct {
	From, To               *snapshot.Holder
	connectFrom, connectTo snapshot.Connect
}

// Freeze opens both snapshots, at the same time. It is what a pause pays for.
func Freeze(ctx context.Context, from, to snapshot.Connect) (*Frozen, error) {
	f := &Frozen{connectFrom: from, connectTo: to}
	failed := make(chan error, 1)
	go func() {
		var err error
		f.From, err = snapshot.Export(ctx, from)
		failed <- err
	}()
	var err error
	f.To, err = snapshot.Export(ctx, to)
	if err = errors.Join(<-failed, err); err != nil {
		f.Close()
		return nil, fmt.Errorf("freeze both sides: %w", err)
	}
	return f, nil
}

// Close lets both snapshots go. It may be called more than once.
func (f *Frozen) Close() {
	for _, h := range []*snapshot.Holder{f.From, f.To} {
		if h != nil {
			h.Close()
		}
	}
}

// Verdict says how the two sides of a table compare.
type Verdict string

// The verdicts.
const (
	Equal       Verdict = "equal"
	Different   Verdict = "different"
	NotProvable Verdict = "not provable"
)

// Result is what the comparison of one table found.
type Result struct {
	Name             pg.Name
	Verdict          Verdict
	FromRows, ToRows int64
	Reason           string // why it is different or not provable
	Keys             []Difference
	More             bool // other keys differ too, or may: Keys does not have all
}

// Difference is one key whose rows differ.
type Difference struct {
	Key  string // the key's columns as a row value, such as (1,eu); for a table without key its place, such as ctid (0,5)
	Kind string // "missing", "extra", "changed" or "repeated", seen from the side that should be equal; "gone" where it may have been deleted since
}

func (d Difference) String() string { return fmt.Sprintf("%s %s", d.Kind, d.Key) }

// Report is the result of a comparison that came to its end.
type Report struct {
	Tables []Result // in the order of Config.Tables
}

// OK reports whether every table is equal. A table that is not provable is not
// equal, and not different either.
func (r Report) OK() bool {
	return !slices.ContainsFunc(r.Tables, func(t Result) bool { return t.Verdict != Equal })
}
