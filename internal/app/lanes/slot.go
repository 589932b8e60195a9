package lanes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/slot"
	"crossfade/schema/catalog"
)

// Back is what the way back is read from: a publication and a slot on the target. Until a decision
// opens the target the publication publishes nothing, so that the slot costs next to nothing while
// the stream writes there. It is safe for concurrent use.
type Back struct {
	Target pg.DSN
	Key    pg.Option // that passes the target's fence
	Slot   func() string
	Log    zerolog.Logger

	made atomic.Bool
}

const (
	// slotPatience bounds the creation of a slot, which waits for the transactions that are open on
	// the target: those of the stream, and of nobody else.
	slotPatience = time.Minute
	// lockPatience bounds the wait for a table of the target that is to be published.
	lockPatience = 30 * time.Second
)

// BackSlot is the name of the slot on the target, by that of the one on the source.
func BackSlot(forward string) string { return forward + "_back" }

// Made reports whether the slot was seen to be there.
func (b *Back) Made() bool { return b.made.Load() }

// Find looks whether the slot is there.
func (b *Back) Find(ctx context.Context, target *pgx.Conn) error {
	s, ok, err := slot.Get(ctx, target, b.Slot())
	if err == nil && ok && !s.Lost() {
		b.made.Store(true)
	}
	return err
}

// Prepare makes publication and slot where they are missing (C22). A slot that the server has given
// up is made again: before the decision nothing of it is wanted. It must not be called while the
// target is the active side.
func (b *Back) Prepare(ctx context.Context) error {
	conn, err := pg.Connect(ctx, b.Target, pg.WithName("way back"), b.Key)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(conn)
	was, err := journal.LoadPublished(ctx, conn)
	if err != nil {
		return err
	}
	there, err := journal.Tables(ctx, conn)
	if err != nil {
		return err
	}
	tables := lists.Pick(was.Tables, func(t journal.PublishedTable) (pg.Name, bool) {
		return t.Table, t.TakenOut == "" && slices.Contains(there, t.Table)
	})
	err = slot.EnsurePublication(ctx, conn, slot.PublicationConfig{Name: journal.Publication, Tables: tables, Silent: true, Patience: lockPatience})
	if err != nil {
		return fmt.Errorf("make the way back on the target: %w", err)
	}
	if err := b.ensureSlot(ctx, conn); err != nil {
		return fmt.Errorf("make the way back on the target: %w", err)
	}
	b.made.Store(true)
	return nil
}

func (b *Back) ensureSlot(ctx context.Context, conn *pgx.Conn) error {
	name := b.Slot()
	s, ok, err := slot.Get(ctx, conn, name)
	switch {
	case err != nil:
		return err
	case ok && !s.Lost():
		return nil
	case ok:
		b.Log.Warn().Str("slot", name).Msg("the target has given up the slot of the way back; it is made again")
		if err := slot.Drop(ctx, conn, name); err != nil {
			return err
		}
	}
	made, err := slot.Create(ctx, slot.Config{Name: name, Wait: slotPatience,
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) {
			return pg.ConnectReplication(ctx, b.Target, pg.WithName("way back"), b.Key)
		},
		Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return pg.Connect(ctx, b.Target, pg.WithName("way back"), b.Key)
		}})
	if errors.Is(err, slot.ErrExists) {
		return nil
	}
	if err != nil {
		return err
	}
	made.Release()
	return nil
}

// Drop removes slot and publication from the target, and says what there was.
func Drop(ctx context.Context, target *pgx.Conn, slotName string, tell func(string)) error {
	_, ok, err := slot.Get(ctx, target, slotName)
	if err != nil {
		return err
	}
	if ok {
		if err := slot.Drop(ctx, target, slotName); err != nil {
			return err
		}
		tell("target: replication slot " + slotName)
	}
	inv, err := slot.TakeInventory(ctx, target, journal.Publication, false)
	if err != nil || inv.Row == "" {
		return err
	}
	if err := slot.DropPublication(ctx, target, journal.Publication); err != nil {
		return err
	}
	tell("target: publication " + journal.Publication)
	return nil
}

// Check refuses a fallback that would lose what is written to a table: one that was made since the
// switch, or that the publication does not have for another reason. It implements what
// ports.Source.Cover asks for.
func (b *Back) Check(ctx context.Context, target *pgx.Conn) error {
	names, err := pg.Rows(ctx, target, pgx.RowToStructByPos[pg.Name], `SELECT t.nspname, t.relname
		FROM (SELECT c.oid, n.nspname::text, c.relname::text, c.relpersistence`+catalog.FromTables+`) t
		WHERE t.relpersistence = 'p' AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
			WHERE p.pubname = $1 AND r.prrelid = t.oid) ORDER BY 1, 2`, journal.Publication)
	if err != nil {
		return fmt.Errorf("compare tables and publication of the target: %w", err)
	}
	if len(names) > 0 {
		return fmt.Errorf("table %s of the target is not followed to the source, and neither are %d more: a fallback would lose what is in it; "+
			"where nobody needs it, on the target: DROP TABLE %s", names[0].Display(), len(names)-1, names[0])
	}
	return nil
}
