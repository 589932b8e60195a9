package migration

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
	"crossfade/schema/catalog"
)

// slotTries bounds how often the slot is made again because tables were made while
// it waited for open transactions.
const slotTries = 10

// MakeSlot makes the publication, then the slot, and holds the slot's snapshot,
// which must see exactly the tables that are published: one that was made in
// between would be copied and never followed.
func (m *Migration) MakeSlot(ctx context.Context, target *pgx.Conn) (*snapshot.Holder, error) {
	for try := 1; ; try++ {
		held, err := m.makeSlotOnce(ctx, target)
		if err != nil {
			return nil, err
		}
		missing, err := m.unpublished(ctx, held)
		if err == nil && len(missing) == 0 {
			if err = m.recordPublished(ctx, target, held); err == nil {
				return held, nil
			}
		}
		held.Close()
		if err != nil {
			return nil, err
		}
		if try == slotTries {
			return nil, fmt.Errorf("table %s was made while the slot was made, %d times over: let the application make no tables for a moment", missing[0].Display(), try)
		}
		m.Task.Log.Info().Str(obs.KeyRelation, missing[0].Display()).Msg("a table was created meanwhile; the slot is recreated")
	}
}

// unpublished lists the tables that the snapshot sees and the publication lacks,
// and the other way round.
func (m *Migration) unpublished(ctx context.Context, held *snapshot.Holder) (out []pg.Name, err error) {
	err = m.Task.onSource(ctx, held, 0, func(conn *pgx.Conn) error {
		db, err := catalog.Read(ctx, conn)
		if err != nil {
			return err
		}
		have, err := slot.PublishedTables(ctx, conn, journal.Publication)
		want := published(db)
		lacks := func(list []pg.Name) func(pg.Name) bool {
			return func(n pg.Name) bool { return !slices.Contains(list, n) }
		}
		out = append(lists.Filter(want, lacks(have)), lists.Filter(have, lacks(want))...)
		return err
	})
	return out, err
}

// recordPublished records the publication as the slot's snapshot sees it: anything that differs
// later was changed since, even if it looks the same again.
func (m *Migration) recordPublished(ctx context.Context, target *pgx.Conn, held *snapshot.Holder) error {
	return m.Task.onSource(ctx, held, 0, func(conn *pgx.Conn) error {
		p, err := watch.PublicationOf(ctx, conn)
		if err != nil {
			return err
		}
		return journal.SetPublished(ctx, target, p)
	})
}

// makeSlotOnce makes both. A slot of an earlier start, whose snapshot is gone, is
// dropped first: nothing has been copied under it.
func (m *Migration) makeSlotOnce(ctx context.Context, target *pgx.Conn) (*snapshot.Holder, error) {
	conn, err := m.Task.ConnectSource(ctx)
	if err != nil {
		return nil, err
	}
	defer dbconn.CloseNow(conn)
	db, err := catalog.Read(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := slot.EnsurePublication(ctx, conn, slot.PublicationConfig{Name: journal.Publication, Tables: published(db), LockTimeout: m.Task.LockTimeout}); err != nil {
		return nil, err
	}
	if err := slot.Drop(ctx, conn, m.Task.Identity.Target.Slot); err != nil {
		return nil, err
	}
	s, err := slot.Create(ctx, slot.Config{
		Name: m.Task.Identity.Target.Slot,
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) {
			return pg.ConnectReplication(ctx, m.Task.Source, pg.WithName("slot"))
		},
		Connect:   m.Task.ConnectSource,
		OnBlocked: m.Task.OnBlocked,
	})
	if m.Task.OnBlocked != nil {
		m.Task.OnBlocked(nil)
	}
	if err != nil {
		return nil, err
	}
	defer s.Release()
	held, err := snapshot.Import(ctx, m.Task.ConnectSource, s.Snapshot)
	if err != nil {
		return nil, err
	}
	if err := journal.SetSlot(ctx, target, s.Name, s.ConsistentPoint, held.Text()); err != nil {
		held.Close()
		return nil, err
	}
	m.Task.Log.Info().Str("slot", s.Name).Stringer("consistent_point", s.ConsistentPoint).Str("snapshot", held.Text()).Msg("slot made")
	m.Task.mu.Lock()
	m.Task.Identity.Target.Consistent, m.Task.Identity.Target.SlotSnapshot = s.ConsistentPoint, held.Text()
	m.Task.Phase = journal.PhaseSlotted
	m.Task.mu.Unlock()
	return held, nil
}

// published lists what the publication holds: the tables with rows of their own.
func published(db *catalog.Database) []pg.Name {
	names := lists.Pick(db.Relations, func(r *catalog.Relation) (pg.Name, bool) {
		return r.Name(), r.Kind == catalog.KindTable && r.Persistence == catalog.Permanent
	})
	return append([]pg.Name{{Schema: journal.Schema, Name: "marker"}}, names...)
}
