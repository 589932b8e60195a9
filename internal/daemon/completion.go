package daemon

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/control"
	"crossfade/internal/pg"
	"crossfade/schema"
	"crossfade/schema/catalog"
)

// completion is what of the work after the decision could not be done: it is tried
// again by itself, and until it is done `finish` refuses. It is safe for concurrent use.
type completion struct {
	log zerolog.Logger

	mu   sync.Mutex
	left []control.Blocker
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
	c.left = left
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
func (m *migration) unfinished(ctx context.Context, conn *pgx.Conn, refused []*schema.RestoreError) []control.Blocker {
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
func (m *migration) orphansOf(ctx context.Context, conn *pgx.Conn, key uint32) (o schema.Orphans, ok bool) {
	db, k := m.foreignKey(key)
	if k == nil {
		return o, false
	}
	ctx, cancel := context.WithTimeout(ctx, orphanPatience)
	defer cancel()
	err := bounded(ctx, conn, orphanPatience, func() (err error) {
		o, err = schema.FindOrphans(ctx, conn, db, k)
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
func asRefusals(findings []schema.Finding) []*schema.RestoreError {
	var out []*schema.RestoreError
	for _, f := range findings {
		out = append(out, &schema.RestoreError{Finding: f})
	}
	return out
}
