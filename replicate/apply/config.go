package apply

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/stream"
)

const (
	// DefaultBatchRows is the number of changes at which a batch is closed. More
	// per statement gains nothing that can be measured.
	DefaultBatchRows = 5000
	// DefaultBatchBytes is the memory at which a batch is closed.
	DefaultBatchBytes = 4 << 20
	// DefaultBatchAge bounds how long a change waits for others while input keeps coming.
	DefaultBatchAge = 10 * time.Millisecond
	// DefaultBatchLimit bounds one batch on the target. A batch takes
	// milliseconds; a connection that is dead without saying so is found by it.
	DefaultBatchLimit = 5 * time.Minute
	// DefaultLockTimeout bounds each wait for a lock on the target; the batch is rolled back then
	// and tried again, so that no session queues behind us for longer.
	DefaultLockTimeout = 2 * time.Second
	// DefaultDurableInterval is how often a commit waits for the target's disk,
	// after which the source may forget what was applied.
	DefaultDurableInterval = time.Second
	// DefaultHeartbeat is how often a heartbeat is written on the source.
	DefaultHeartbeat = time.Second
	// MarkerPrefix is the prefix of the message whose application ends a drain;
	// its content is a nonce.
	MarkerPrefix = "crossfade.marker"
	// batchPrefix is the prefix of the message that our transactions begin with.
	batchPrefix = "crossfade.batch"
	// heartbeatPrefix is the prefix of the heartbeat's message; its content is
	// our own clock in microseconds.
	heartbeatPrefix = "crossfade.hb"
	// ownSchema holds our tables, which are never applied.
	ownSchema = "crossfade"
	// maxPrepared bounds the prepared statements of a session; what comes after
	// is parsed each time.
	maxPrepared = 2000
)

// Alarm names a transaction that changed the source after the marker.
type Alarm struct {
	XID      uint32
	LSN      pg.LSN // of its commit record
	Relation string // the first that it changed
}

// Config says what a Follower follows, and where to.
type Config struct {
	Source, Target               pg.DSN
	SourceOptions, TargetOptions []pg.Option // such as the run's key
	Slot, Publication            string
	SystemID                     string // of the source; not checked if empty
	Lane                         int32
	// Start is the slot's consistent point, where a lane without progress begins.
	Start pg.LSN
	// Snapshots says, for each copied relation by its oid on the source, which
	// transactions its copy has seen. Relations that are not in it were not
	// copied: every change of them is applied. It is not changed by anyone.
	Snapshots map[uint32]pg.Snapshot
	// Copied describes each copied relation, by its oid on the source, as it was when it was
	// copied: its changes go to the target's table of that name, whatever its name on the source is
	// by then. Relations that are not in it keep their names. It must not be changed.
	Copied map[uint32]Copied
	// Routes says, by the oid on the source, which relations are written through a partitioned
	// table on the target, since it may route their rows otherwise. It is not changed by anyone.
	Routes map[uint32]pg.Name
	// BeforeTruncate, if set, is called before each attempt to apply a TRUNCATE. It releases locks
	// of ours that would stop it.
	BeforeTruncate func(ctx context.Context) error
	// OnAlarm, if set, is called for each transaction that comes after an awaited marker, has
	// changes and does not begin with a message of ours. It must not block.
	OnAlarm func(Alarm)
	// Writes says how the transactions on the target are made.
	Writes Writes

	BatchRows       int           // DefaultBatchRows if 0
	BatchBytes      int64         // DefaultBatchBytes if 0
	BatchAge        time.Duration // DefaultBatchAge if 0
	BatchLimit      time.Duration // DefaultBatchLimit if 0
	LockTimeout     time.Duration // DefaultLockTimeout if 0
	DurableInterval time.Duration // DefaultDurableInterval if 0
	Heartbeat       time.Duration // DefaultHeartbeat if 0; negative: none
	Stream          stream.Config // its bounds; what else is in it is filled in
	Retry           retry.Policy  // pauses between attempts, for both sides
	Logger          zerolog.Logger
}

// Writes says how transactions on the target are made.
type Writes struct {
	// Marked has each begin with a message of ours, so that who reads the changes of the target tells
	// them from those of others.
	Marked bool
	// Enter, if set, prepares a session to write, such as in a mode in which triggers do not act, or
	// refuses it.
	Enter func(ctx context.Context, conn *pgx.Conn) error
}

// Validate refuses a configuration that cannot work.
func (c Config) Validate() error {
	if c.Target.IsZero() {
		return errors.New("apply: no target given")
	}
	if c.BatchRows < 0 || c.BatchBytes < 0 || c.BatchAge < 0 || c.BatchLimit < 0 || c.LockTimeout < 0 || c.DurableInterval < 0 {
		return errors.New("apply: negative bound")
	}
	err := c.stream(c.Start).Validate()
	return pg.Wrap(err, "apply")
}

func (c Config) withDefaults() Config {
	c.BatchRows = cmp.Or(c.BatchRows, DefaultBatchRows)
	c.BatchBytes = cmp.Or(c.BatchBytes, DefaultBatchBytes)
	c.BatchAge = cmp.Or(c.BatchAge, DefaultBatchAge)
	c.BatchLimit = cmp.Or(c.BatchLimit, DefaultBatchLimit)
	c.LockTimeout = cmp.Or(c.LockTimeout, DefaultLockTimeout)
	c.DurableInterval = cmp.Or(c.DurableInterval, DefaultDurableInterval)
	c.Heartbeat = cmp.Or(c.Heartbeat, DefaultHeartbeat)
	return c
}

// stream is the configuration of a Reader that begins at start.
func (c Config) stream(start pg.LSN) stream.Config {
	s := c.Stream
	s.DSN, s.Options = c.Source, append([]pg.Option{pg.WithName("stream")}, c.SourceOptions...)
	s.Slot, s.Publication, s.Start, s.SystemID = c.Slot, c.Publication, start, c.SystemID
	s.Retry, s.Logger = c.Retry, c.Logger
	return s
}
