package migration

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/replicate/copy"
	"crossfade/replicate/stream"
	"crossfade/schema/catalog"
)

// copyStream is the slot that tells the copy what changed while a snapshot was
// lost, nil for a copy without a slot.
func (m *Rows) copyStream() *copy.Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.task.Identity.Target
	if t.Consistent == 0 {
		return nil
	}
	return &copy.Stream{Snapshot: t.SlotSnapshot, Config: stream.Config{DSN: m.task.Source, Slot: t.Slot, Publication: journal.Publication,
		SystemID: t.SourceSystem, Start: t.Consistent}}
}

// followedKey returns the columns of a table whose values the stream gives for
// every change of a row and that name the row; nil if there are none. With the
// replica identity FULL these are of any unique index whose columns are never null.
func followedKey(r *catalog.Relation) []string {
	if r.Persistence != catalog.Permanent {
		return nil
	}
	if r.ReplicaIdentity != catalog.IdentityFull {
		return r.Identity
	}
	for _, u := range r.Unique {
		never := func(name string) bool {
			c := r.Column(name)
			return c == nil || !c.NotNull || c.Generated != 0
		}
		if !u.Partial && len(u.Columns) > 0 && !slices.ContainsFunc(u.Columns, never) {
			return u.Columns
		}
	}
	return nil
}

// LoadPast reads from the target what became of tables whose snapshot was lost.
func (m *Rows) LoadPast(ctx context.Context, target *pgx.Conn) error {
	var past control.Copy
	err := target.QueryRow(ctx, `SELECT coalesce(sum(restarts), 0), coalesce(sum(repairs), 0), coalesce(sum(repaired_keys), 0)::bigint FROM crossfade.relation`).
		Scan(&past.TablesRestarted, &past.TablesRepaired, &past.KeysRepaired)
	if err != nil {
		return fmt.Errorf("read what was repaired: %w", err)
	}
	m.mu.Lock()
	m.past = past
	m.mu.Unlock()
	return nil
}
