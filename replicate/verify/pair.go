package verify

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/apply"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
)

const (
	// DefaultHold bounds how long the stream stands still for a pair: a slot is made in
	// milliseconds where no transaction is long, and the target lags no longer than this.
	DefaultHold = 15 * time.Second
	// DefaultQuietPatience bounds the wait for transactions of the side that is written to. The
	// stream goes on meanwhile.
	DefaultQuietPatience = 5 * time.Minute
	// longTransaction is how long a transaction has to be open to be waited for before the stream
	// is held: most end by themselves within that, while the slot is made.
	longTransaction = time.Second
	// quietPoll is how often such transactions are looked for.
	quietPoll = 250 * time.Millisecond
)

// Stream carries the changes of one side to the other, and can stop at a cut: apply.Follower.
type Stream interface {
	Freeze(ctx context.Context, cut func(context.Context) (apply.Cut, error), frozen func(context.Context) error) error
}

// Following freezes two sides while one follows the other, and stops no application. The snapshot
// of the side that is written to is that of a temporary replication slot, which is dropped at once;
// it sees exactly the transactions before the slot's consistent point. The stream stops there for
// as long as the snapshot of the other side takes. A value may be used by one goroutine at a time.
type Following struct {
	From, To    snapshot.Connect                                  // From is written to, To follows
	Replication func(ctx context.Context) (*pgconn.PgConn, error) // opens a session with replication=database at From
	SlotPrefix  string                                            // of the temporary slots' names
	Stream      func() (Stream, error)                            // the one that runs now
	Hold        time.Duration                                     // DefaultHold if 0
	Patience    time.Duration                                     // DefaultQuietPatience if 0
	// Waits, if set, is told which transactions are waited for, "" when for none any more.
	Waits func(what string)
}

// OpenTransactionsError says that transactions have been open for so long that no snapshot could be
// tied to a place in the stream.
type OpenTransactionsError struct {
	Waited   time.Duration
	Blockers []slot.Blocker
}

func (e *OpenTransactionsError) Error() string {
	return fmt.Sprintf("freeze both sides: waited %v for open transactions: %s; let these end, or end them, and ask again",
		e.Waited.Round(time.Second), describe(e.Blockers))
}

func describe(blockers []slot.Blocker) string {
	const most = 3
	words := lists.Map(blockers[:min(len(blockers), most)], slot.Blocker.String)
	if more := len(blockers) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, "; ")
}

// Freeze takes a pair. It first waits, at most Patience, for transactions that are open for long,
// since a slot has to; then the stream is held, at most for Hold. An error is an
// *OpenTransactionsError where they do not end. The caller closes what is returned.
func (p *Following) Freeze(ctx context.Context) (*Frozen, error) {
	begun, patience := time.Now(), cmp.Or(p.Patience, DefaultQuietPatience)
	for {
		if err := p.awaitQuiet(ctx, begun, patience); err != nil {
			return nil, err
		}
		f, err := p.once(ctx)
		var blocked *slot.BlockedError
		if !errors.As(err, &blocked) || ctx.Err() != nil {
			return f, err
		}
		if waited := time.Since(begun); waited >= patience {
			return nil, &OpenTransactionsError{Waited: waited, Blockers: blocked.Blockers}
		}
	}
}

// awaitQuiet waits until no transaction that has written is open for long.
func (p *Following) awaitQuiet(ctx context.Context, begun time.Time, patience time.Duration) error {
	conn, err := p.From(ctx)
	if err != nil {
		return fmt.Errorf("freeze both sides: %w", err)
	}
	defer snapshot.Close(conn)
	defer p.waits(nil)
	for range retry.Poll(ctx, quietPoll) {
		found, err := slot.Blockers(ctx, conn)
		if err != nil {
			return fmt.Errorf("freeze both sides: %w", err)
		}
		found = slices.DeleteFunc(found, func(b slot.Blocker) bool { return b.Open < longTransaction })
		if len(found) == 0 {
			return nil
		}
		if waited := time.Since(begun); waited >= patience {
			return &OpenTransactionsError{Waited: waited, Blockers: found}
		}
		p.waits(found)
	}
	return ctx.Err()
}

func (p *Following) waits(blockers []slot.Blocker) {
	if p.Waits == nil {
		return
	}
	if len(blockers) == 0 {
		p.Waits("")
		return
	}
	p.Waits("open transactions have to end first: " + describe(blockers))
}

// errHold is the cause of a hold that took too long.
var errHold = errors.New("the stream may not be held longer for a comparison")

// once holds the stream and takes both snapshots.
func (p *Following) once(ctx context.Context) (*Frozen, error) {
	stream, err := p.Stream()
	if err != nil {
		return nil, err
	}
	hold := cmp.Or(p.Hold, DefaultHold)
	held, cancel := context.WithTimeoutCause(ctx, hold, errHold)
	defer cancel()
	f := &Frozen{connectFrom: p.From, connectTo: p.To}
	var made *slot.Slot
	err = stream.Freeze(held, func(ctx context.Context) (cut apply.Cut, err error) {
		made, err = slot.Create(ctx, slot.Config{Name: p.SlotPrefix + "_verify_" + strings.ToLower(rand.Text()[:8]), Temporary: true, Wait: hold / 2,
			Replication: p.Replication, Connect: p.connect})
		if err != nil {
			return cut, explainSlot(err)
		}
		if f.From, err = snapshot.Import(ctx, p.From, made.Snapshot); err != nil {
			return cut, err
		}
		return apply.Cut{Snapshot: f.From.Snapshot(), LSN: made.ConsistentPoint}, nil
	}, func(ctx context.Context) (err error) {
		f.To, err = snapshot.Export(ctx, p.To)
		return err
	})
	if made != nil {
		made.Release()
	}
	if err != nil {
		f.Close()
		return nil, pg.Wrap(err, "freeze both sides")
	}
	return f, nil
}

func (p *Following) connect(ctx context.Context) (*pgx.Conn, error) { return p.From(ctx) }

// explainSlot says what to do where a server has no room for one more slot.
func explainSlot(err error) error {
	switch {
	case pg.IsCode(err, pg.CodeConfigurationLimit):
		return fmt.Errorf("no replication slot is free for a moment: drop one that nobody uses, or raise max_replication_slots, and ask again: %w", err)
	case pg.IsCode(err, pg.CodeTooManyConnections):
		return fmt.Errorf("no session for a replication slot is free for a moment: end one that nobody uses, or raise max_wal_senders, and ask again: %w", err)
	}
	return err
}
