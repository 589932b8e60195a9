package watch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/slot"
)

// Members compares the source's publication with what it was when the slot was made, by the
// catalog's rows: what was changed and changed back is another row (C26). It also removes tables
// that applications cannot update any more because they are published (C13). It is safe for
// concurrent use.
type Members struct {
	LockTimeout time.Duration
	Log         zerolog.Logger

	mu      sync.Mutex
	was     *journal.Published // as recorded; nil before it was read
	harmed  map[uint32]bool    // tables that the last check found harmed
	unkept  map[uint32]string  // why a table was taken out, where that is not recorded yet
	trouble map[uint32]string  // why a harmed table is still in the publication, if not because it was found only a moment ago
}

// recorded is the publication as it was when the slot was made. The caller holds the lock.
func (m *Members) recorded(ctx context.Context, target *pgx.Conn) (*journal.Published, error) {
	if m.was == nil {
		was, err := journal.LoadPublished(ctx, target)
		if err != nil {
			return nil, err
		}
		m.was = &was
	}
	return m.was, nil
}

// Ask is the watchers' question whether the publication is, and was all the time, what
// it was when the slot was made.
func (m *Members) Ask(ctx context.Context, source, target *pgx.Conn) ([]Notice, error) {
	now, err := slot.TakeInventory(ctx, source, journal.Publication, false)
	if err != nil {
		return nil, err
	}
	harmed, err := slot.Harmed(ctx, source, journal.Publication)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	was, err := m.recorded(ctx, target)
	if err != nil {
		return nil, err
	}
	var found []Notice
	tell := func(code, remedy, format string, args ...any) {
		found = append(found, Notice{Blocker: control.Blocker{Code: code, Detail: fmt.Sprintf(format, args...), Remedy: remedy}})
	}
	switch {
	case now.Row == "":
		tell("publication_changed", StartOver, "publication %s was dropped from the source: what was written since is lost to the target", journal.Publication)
		return found, nil
	case now.Row != was.Row:
		tell("publication_changed", StartOver, "publication %s was altered, or dropped and made again, since the migration began: what it left out meanwhile is lost to the target", journal.Publication)
	}
	told := map[uint32]bool{}
	harm := func(table pg.Name, reason, format string, args ...any) {
		if reason == slot.HarmPartial {
			tell("publication_changed", StartOver, format, args...)
			return
		}
		remedy := fmt.Sprintf("on the source: give it a primary key, or ALTER TABLE %s REPLICA IDENTITY FULL; then %s", table, StartOver)
		tell("no_replica_identity", remedy, format, args...)
	}
	for _, h := range harmed {
		told[h.OID] = true
		why := "it is taken out of the publication in a moment"
		if t := m.trouble[h.OID]; t != "" {
			why = t
		}
		harm(h.Table, h.Reason, "table %s %s: UPDATEs and DELETEs of it fail on the source because publication %s has it; %s", h.Table.Display(), h.Reason, journal.Publication, why)
	}
	rows := map[uint32]string{}
	for _, t := range now.Tables {
		rows[t.OID] = t.Row
	}
	var missing, again []string
	for _, t := range was.Tables {
		row, there := rows[t.OID]
		switch {
		case row == t.Row, told[t.OID]:
		case t.TakenOut != "":
			harm(t.Table, t.TakenOut, "table %s was taken out of publication %s, so that applications can update it: it was found that it %s; what is written to it does not reach the target", t.Table.Display(), journal.Publication, t.TakenOut)
		case there:
			again = append(again, t.Table.Display())
		default:
			missing = append(missing, t.Table.Display())
		}
	}
	if len(again) > 0 {
		tell("publication_changed", StartOver, "taken out of publication %s for a while since the migration began: %s; what was written to it meanwhile is lost to the target", journal.Publication, some("table", again))
	}
	if missing, err = existing(ctx, source, was.Tables, missing); err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		tell("publication_changed", StartOver, "not in publication %s any more: %s; what is written to it does not reach the target", journal.Publication, some("table", missing))
	}
	return found, nil
}

// some names the first few things of a kind.
func some(kind string, names []string) string {
	if len(names) > 1 {
		kind += "s"
	}
	if len(names) > maxUncovered {
		return fmt.Sprintf("%s %s and %d more", kind, strings.Join(names[:maxUncovered], ", "), len(names)-maxUncovered)
	}
	return kind + " " + strings.Join(names, ", ")
}

// existing keeps the names of those tables that were not dropped; the coverage reports dropped
// ones.
func existing(ctx context.Context, source *pgx.Conn, tables []journal.PublishedTable, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	oids := map[uint32]string{}
	for _, t := range tables {
		if slices.Contains(names, t.Table.Display()) {
			oids[t.OID] = t.Table.Display()
		}
	}
	list := slices.AppendSeq(make([]uint32, 0, len(oids)), maps.Keys(oids))
	there, err := pg.Rows(ctx, source, pgx.RowTo[uint32], `SELECT oid FROM pg_catalog.pg_class WHERE oid = ANY ($1::oid[])`, list)
	if err != nil {
		return nil, fmt.Errorf("look for tables that were published: %w", err)
	}
	out := lists.Map(there, func(oid uint32) string { return oids[oid] })
	slices.Sort(out)
	return out, nil
}

// Protect takes tables out of the publication that applications cannot update because of it, when
// they are found so twice in a row: a key that is dropped and made again by the next statement
// costs the migration nothing. What it cannot do now it does at the next call.
func (m *Members) Protect(ctx context.Context, source *pgx.Conn, keep func(ctx context.Context, oid uint32, why string) error) error {
	harmed, err := slot.Harmed(ctx, source, journal.Publication)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.harmed
	m.harmed, m.trouble = map[uint32]bool{}, map[uint32]string{}
	for _, h := range harmed {
		m.harmed[h.OID] = true
		if !before[h.OID] {
			continue
		}
		if err := slot.TakeOut(ctx, source, journal.Publication, h.Table, m.LockTimeout); err != nil {
			m.trouble[h.OID] = fmt.Sprintf("it could not be taken out yet (%v)", err)
			m.Log.Warn().Err(err).Msg("a table that fails to be updated is still published")
			if pg.ConnectionLost(err) || ctx.Err() != nil {
				return err
			}
			continue
		}
		lists.Put(&m.unkept, h.OID, h.Reason)
		m.Log.Warn().Str("table", h.Table.Display()).Str("reason", h.Reason).Msg("taken out of the publication: its UPDATEs and DELETEs failed on the source; the migration has to be started over")
	}
	for oid, why := range m.unkept {
		if err := keep(ctx, oid, why); err != nil {
			return err
		}
		delete(m.unkept, oid)
		if m.was == nil { // which is read with that
			continue
		}
		for i := range m.was.Tables {
			if m.was.Tables[i].OID == oid {
				m.was.Tables[i].TakenOut = why
			}
		}
	}
	return nil
}

// PublicationOf reads the source's publication in the journal's terms.
func PublicationOf(ctx context.Context, source *pgx.Conn) (journal.Published, error) {
	inv, err := slot.TakeInventory(ctx, source, journal.Publication, true)
	if err != nil {
		return journal.Published{}, err
	}
	return journal.Published{Row: inv.Row, Tables: lists.Map(inv.Tables, func(t slot.Membership) journal.PublishedTable {
		return journal.PublishedTable{OID: t.OID, Table: t.Table, Columns: t.Columns, Row: t.Row}
	})}, nil
}
