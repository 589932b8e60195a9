package copy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// Stream is the slot that was made before the copy. What it holds tells which
// rows changed between two snapshots. The copy reads it and never moves it.
type Stream struct {
	DSN         pg.DSN
	Options     []pg.Option
	Slot        string
	Publication string
	SystemID    string // the source's, "" for any
	Start       pg.LSN // the slot's consistent point, beyond which nothing was confirmed
	Snapshot    string // what the slot's own snapshot sees, as pg_current_snapshot() prints it
}

func (s *Stream) validate() error {
	if s == nil {
		return nil
	}
	if s.DSN.IsZero() || s.Slot == "" || s.Publication == "" || s.Start == 0 {
		return errors.New("copy: stream without DSN, slot, publication or start")
	}
	if _, err := pg.ParseSnapshot(s.Snapshot); err != nil {
		return fmt.Errorf("copy: snapshot of the slot: %w", err)
	}
	return nil
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
	if _, err := conn.Exec(ctx, "SET synchronous_commit = local"); err != nil {
		return 0, fmt.Errorf("mark the source's log: %w", err)
	}
	var text string
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1::text, '')::text`, markPrefix).Scan(&text); err != nil {
		return 0, fmt.Errorf("mark the source's log: %w", err)
	}
	return pg.ParseLSN(text)
}
