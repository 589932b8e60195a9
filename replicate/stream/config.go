package stream

import (
	"cmp"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

const (
	// DefaultMaxBytes is how much may be handed out and not released before the Reader stops
	// reading: several batches of the applier, and little compared with what the daemon needs
	// anyway.
	DefaultMaxBytes = 64 << 20
	// DefaultPartBytes is when a transaction is handed out in parts: one batch.
	DefaultPartBytes = 4 << 20
	// DefaultStatusInterval is how often the source hears of us. It is far below
	// any sensible wal_sender_timeout (60 s), and bounds how late the slot moves.
	DefaultStatusInterval = time.Second
	// DefaultIdleInterval is how often a quiet source's position is handed out,
	// which costs one write on the target each time.
	DefaultIdleInterval = 10 * time.Second
	// DefaultSilenceLimit is when a source that sends nothing, even when asked, is considered gone:
	// two answers of a slow network were lost by then.
	DefaultSilenceLimit = 60 * time.Second
	// writeLimit bounds the sending of one status update of 39 bytes.
	writeLimit = 30 * time.Second
	// lastWordLimit bounds it when the Reader ends: nobody waits for it.
	lastWordLimit = time.Second
	// queueLength bounds the parts in the queue; memory is bounded by bytes.
	queueLength = 1024
)

// Config says what a Reader reads. DSN, Slot, Publication and Start are needed.
type Config struct {
	DSN         pg.DSN
	Options     []pg.Option // for the replication session, such as the run's key
	Slot        string
	Publication string
	// Start is the position that is durable on the target. Transactions that
	// end at or before it are not handed out.
	Start pg.LSN
	// Behind says that Start may be behind what the slot has confirmed: what is between is not wanted.
	Behind bool
	// SystemID, if not empty, is what the source must answer to
	// IDENTIFY_SYSTEM: positions mean nothing on another server.
	SystemID string

	MaxBytes       int64         // DefaultMaxBytes if 0
	PartBytes      int64         // DefaultPartBytes if 0
	StatusInterval time.Duration // DefaultStatusInterval if 0
	IdleInterval   time.Duration // DefaultIdleInterval if 0
	SilenceLimit   time.Duration // DefaultSilenceLimit if 0
	Retry          retry.Policy  // pauses between attempts to connect; its OnRetry is set by the Reader
	Logger         zerolog.Logger
}

// Validate refuses a configuration that cannot work.
func (c Config) Validate() error {
	switch {
	case c.DSN.IsZero():
		return errors.New("stream: no source given")
	case c.Slot == "":
		return errors.New("stream: no slot given")
	case c.Publication == "":
		return errors.New("stream: no publication given")
	case c.Start == 0:
		return errors.New("stream: no start position given")
	case c.MaxBytes < 0 || c.PartBytes < 0 || c.StatusInterval < 0 || c.IdleInterval < 0 || c.SilenceLimit < 0:
		return errors.New("stream: negative bound")
	}
	err := c.Retry.Validate()
	return pg.Wrap(err, "stream")
}

func (c Config) withDefaults() Config {
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	if c.PartBytes == 0 {
		c.PartBytes = min(DefaultPartBytes, c.MaxBytes)
	}
	c.StatusInterval = cmp.Or(c.StatusInterval, DefaultStatusInterval)
	c.IdleInterval = cmp.Or(c.IdleInterval, DefaultIdleInterval)
	c.SilenceLimit = cmp.Or(c.SilenceLimit, DefaultSilenceLimit)
	return c
}
