package copy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/base/pg"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/stream"
)

// Defaults of Config.
const (
	DefaultJobs = 4
	// DefaultBufferBytes is the size of each buffer between the two COPYs of a job,
	// and of one write and one message to the target, which copies it as a whole:
	// larger ones leave the cache of its core.
	DefaultBufferBytes = 64 << 10
	// DefaultSourceLockTimeout is below deadlock_timeout; see DESIGN C13.
	DefaultSourceLockTimeout = 200 * time.Millisecond
	// DefaultPatience bounds how long one chunk may fail for passing reasons: servers that are
	// restarted or failed over are back before, and an application does not lock a table that long
	// without someone knowing.
	DefaultPatience = 15 * time.Minute
	// DefaultMaxRestarts bounds how often one relation begins again. A table
	// that is truncated every few minutes must not be copied for ever.
	DefaultMaxRestarts = 20
)

// Table is one relation that holds rows: a plain table or a leaf partition.
type Table struct {
	OID     uint32   // on the source
	Name    pg.Name  // on both sides
	Columns []string // by name, without generated columns; may be empty
	Binary  bool     // the binary format is safe for every column
	// Key are columns whose values the stream gives, old and new, for every change of
	// a row, that are never null, and that have a unique index. Without them, or
	// without a stream, a relation that has lost its snapshot begins again.
	Key []string
	// Through is the partitioned table on the target that the rows are put through,
	// where the target may route them to another leaf than the source did; zero for
	// the table itself. What was recorded when the table was first seen holds.
	Through pg.Name
}

// Config says what is copied, from where to where.
type Config struct {
	Source snapshot.Connect
	Target snapshot.Connect // its sessions pass the fence, if there is one
	Tables []Table

	// Snapshot is what relations are copied under. It belongs to the caller.
	// If nil, Run takes and holds one of its own.
	Snapshot *snapshot.Holder

	// Stream is the slot that the copy belongs to; nil if there is none.
	Stream *Stream
	// OneMoment ends Run with ErrMoment where a relation would have to be copied under
	// another snapshot than the one that Run began with.
	OneMoment bool

	Jobs              int            // sessions on each side; DefaultJobs if 0
	ChunkBytes        int64          // of a chunk, as the table's size on disk; if 0, what takes about 10 s, and small tables share transactions
	BufferBytes       int            // DefaultBufferBytes if 0
	SourceLockTimeout time.Duration  // DefaultSourceLockTimeout if 0
	Patience          time.Duration  // DefaultPatience if 0
	MaxRestarts       int            // per relation; DefaultMaxRestarts if 0
	Wait              bool           // for what an operator can fix (pg.Fixable), for as long as it takes, instead of ending with it
	Limit             *relay.Limiter // of the bytes a second, of all jobs together; nil for none. It belongs to the caller, who may change it

	// OnCopied, if set, is called once for each table, when it is copied or found copied, on a
	// goroutine of Run. It must return soon and may be called by several goroutines at once.
	OnCopied func(Copied)

	Log zerolog.Logger
}

// Copied describes a relation whose rows are all on the target.
type Copied struct {
	Table    Table
	Snapshot string // text of the snapshot that its rows belong to
	Rows     int64
	Repaired int64 // keys whose rows were fetched again by this Run
	Earlier  bool  // it was copied before this Run
}

// Validate fills defaults in and refuses what contradicts itself.
func (c *Config) Validate() error {
	c.Jobs = cmp.Or(c.Jobs, DefaultJobs)
	c.BufferBytes = cmp.Or(c.BufferBytes, DefaultBufferBytes)
	c.SourceLockTimeout = cmp.Or(c.SourceLockTimeout, DefaultSourceLockTimeout)
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	c.MaxRestarts = cmp.Or(c.MaxRestarts, DefaultMaxRestarts)
	if c.Source == nil || c.Target == nil {
		return errors.New("copy: no way to connect given")
	}
	if c.Jobs < 0 || c.ChunkBytes < 0 || c.BufferBytes < 0 || c.Patience < 0 || c.MaxRestarts < 0 {
		return errors.New("copy: negative bound")
	}
	if c.SourceLockTimeout < time.Millisecond {
		return errors.New("copy: source lock timeout below 1ms")
	}
	if err := c.Stream.validate(); err != nil {
		return err
	}
	seen := map[uint32]bool{}
	for _, t := range c.Tables {
		if t.OID == 0 || t.Name.Name == "" || seen[t.OID] {
			return fmt.Errorf("copy: table %s has no OID, no name, or is listed twice", t.Name.Display())
		}
		seen[t.OID] = true
	}
	return nil
}

// Stream is the slot that was made before the copy. What it holds tells which
// rows changed between two snapshots. The copy reads it and never moves it.
type Stream struct {
	stream.Config        // Start is the slot's consistent point, beyond which nothing was confirmed
	Snapshot      string // what the slot's own snapshot sees, as pg_current_snapshot() prints it
}

func (s *Stream) validate() error {
	if s == nil {
		return nil
	}
	if s.DSN.IsZero() || s.Slot == "" || s.Publication == "" || s.Start == 0 {
		return errors.New("copy: stream without DSN, slot, publication or start")
	}
	_, err := pg.ParseSnapshot(s.Snapshot)
	return pg.Wrap(err, "copy: snapshot of the slot")
}

const (
	// markPrefix is that of the message that is written after a new snapshot.
	markPrefix = "crossfade.copy"
	// markTimeout bounds the writing of one message, with the login.
	markTimeout = 45 * time.Second
	// commitVisiblePause and commitVisibleTries bound the wait for a commit that decoding has
	// seen and sessions do not see yet. It takes microseconds, unless the commit
	// waits for a synchronous standby.
	commitVisiblePause = 20 * time.Millisecond
	commitVisibleTries = 250
)

// errCommitNotVisible says that a fresh snapshot does not see what the slot's snapshot sees.
var errCommitNotVisible = errors.New("a transaction that was committed before the slot was made is still not seen on the source: is a synchronous standby missing?")

// mark writes a message into the source's log and returns its position. Every
// transaction that was seen by a snapshot taken before has its commit before that
// position, and when mark returns all of the log up to it is on the source's disk:
// a crash of the source cannot take back what such a snapshot has seen.
func mark(ctx context.Context, connect snapshot.Connect) (pg.LSN, error) {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	conn, err := connect(ctx)
	if err != nil {
		return 0, err
	}
	defer snapshot.Close(conn)
	var at pg.LSN
	if _, err = conn.Exec(ctx, "SET synchronous_commit = local"); err == nil {
		err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1::text, '')::text`, markPrefix).Scan(&at)
	}
	return at, pg.Wrap(err, "mark the source's log")
}

var (
	// ErrRead and ErrWrite say on which side a chunk met its error.
	ErrRead  = errors.New("read from source")
	ErrWrite = errors.New("write to target")
	// ErrGone says that a table, or one of its columns, no longer exists on the source. Only a copy
	// that starts again fixes that.
	ErrGone = errors.New("the table was dropped or altered on the source during the copy")
	// ErrMoment says that a snapshot was lost, or a table rewritten after it, where
	// every table must be of one moment.
	ErrMoment = errors.New("a table can be copied under another snapshot only")
)

// TableError is an error about one table.
type TableError struct {
	Table pg.Name
	Err   error
}

func (e *TableError) Error() string { return fmt.Sprintf("copy %s: %v", e.Table.Display(), e.Err) }

func (e *TableError) Unwrap() error { return e.Err }

// gone puts ErrGone before what the source says of a name that it does not know.
func gone(err error) error {
	if errors.Is(err, ErrRead) && pg.IsCode(err, pg.CodeUndefinedTable, pg.CodeUndefinedColumn, pg.CodeInvalidSchema) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}
