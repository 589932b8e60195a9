package daemon

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// completion is what of the work after the decision could not be done: it is tried
// again by itself, and until it is done `finish` refuses. It is safe for concurrent use.
type completion struct {
	log zerolog.Logger

	mu    sync.Mutex
	left  []control.Blocker
	waits string // what a statement waits for, "" for nothing
	tries int    // of that statement
}

// set keeps what is left, and tells what is new of it.
func (c *completion) set(left []control.Blocker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range left {
		if !slices.Contains(c.left, b) {
			c.log.Error().Str("code", b.Code).Str("detail", b.Detail).Str("remedy", b.Remedy).Msg("work after the switch is refused by the target; it is tried again")
		}
	}
	c.left, c.waits, c.tries = left, "", 0
}

// toldWaits is after how many tries a statement that waits for its locks is told again in the log.
const toldWaits = 10

// wait keeps what a statement waits for, and whom.
func (c *completion) wait(s plan.Statement, holders []dbconn.Process) {
	words := "a statement waits for a lock: " + strings.TrimSuffix(strings.Join(strings.Fields(s.SQL), " "), ";")
	if len(s.Locks) > 0 {
		var names []string
		for _, t := range s.Locks {
			names = append(names, t.Display())
		}
		words = "the writers of " + strings.Join(names, " and ") + " leave no moment for: " + strings.TrimSuffix(strings.Join(strings.Fields(s.SQL), " "), ";")
	}
	for i, h := range holders {
		words += [2]string{"; they are held by ", " and "}[min(i, 1)] + h.String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tries++; c.tries%toldWaits == 1 {
		c.log.Info().Str("detail", words).Int("tries", c.tries).Msg("work after the switch waits for locks")
	}
	c.waits = words
}

// waiting says what the work waits for, "" for nothing that is known.
func (c *completion) waiting() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waits
}

// blockers are what stands in the way of `finish`.
func (c *completion) blockers() []control.Blocker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.left)
}

const againAfter = "crossfade run tries again by itself; or crossfade finish --force leaves it as it is"

// unfinished puts refusals into words. One foreign key of a partitioned table may be
// refused several times, and is told once.
func (m *migration) unfinished(ctx context.Context, conn *pgx.Conn, refused []*restore.Error) []control.Blocker {
	var out []control.Blocker
	told := map[uint32]bool{}
	for _, r := range refused {
		key := r.Statement.Key
		if key != 0 && told[key] {
			continue
		}
		told[key] = true
		b := control.Blocker{Code: "not_whole", Detail: "after the switch the target has refused " + strings.TrimSuffix(r.Finding.String(), "; "+r.Finding.Remedy),
			Remedy: "remove the cause; " + againAfter}
		if sql := strings.Join(strings.Fields(r.Statement.SQL), " "); sql != "" && key == 0 {
			b.Remedy = "remove the cause, or on the target: " + strings.TrimSuffix(sql, ";") + "; " + againAfter
		}
		if pg.IsCode(r.Err, pg.CodeForeignKeyViolation) {
			if o, ok := m.orphansOf(ctx, conn, key); ok {
				b.Detail = "after the switch foreign key " + o.Key + " could not be validated: " + o.String()
				b.Remedy = "on the target, add the rows that are missing, or remove those that lack them: " + o.Remove + "; " + againAfter
			}
		}
		out = append(out, b)
	}
	return out
}

// orphansOf looks for rows that a key forbids. ok is false where none are found.
func (m *migration) orphansOf(ctx context.Context, conn *pgx.Conn, key uint32) (o restore.Orphans, ok bool) {
	db, k := m.foreignKey(key)
	if k == nil {
		return o, false
	}
	ctx, cancel := context.WithTimeout(ctx, orphanPatience)
	defer cancel()
	err := watch.WithTimeLimit(ctx, conn, orphanPatience, func() (err error) {
		o, err = restore.FindOrphans(ctx, conn, db, k)
		return err
	})
	return o, err == nil && len(o.Examples) > 0
}

func (m *migration) foreignKey(oid uint32) (*catalog.Database, *catalog.ForeignKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.catalog == nil {
		return nil, nil
	}
	for i := range m.catalog.ForeignKeys {
		if m.catalog.ForeignKeys[i].OID == oid {
			return m.catalog, &m.catalog.ForeignKeys[i]
		}
	}
	return m.catalog, nil
}

// refusals are findings in the form of refusals.
func asRefusals(findings []finding.Finding) []*restore.Error {
	var out []*restore.Error
	for _, f := range findings {
		out = append(out, &restore.Error{Finding: f})
	}
	return out
}
