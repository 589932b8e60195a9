package migration

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/options"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/restore"
	"crossfade/schema/roles"
)

// narrow leaves of the source's catalog what the archive takes along.
func narrow(db *catalog.Database, archive *archive.Archive) {
	taken := map[uint32]bool{}
	for _, e := range archive.Entries {
		switch e.Kind {
		case "TABLE", "MATERIALIZED VIEW", "SEQUENCE":
			taken[e.OID] = true
		}
	}
	db.Relations = slices.DeleteFunc(db.Relations, func(r *catalog.Relation) bool { return !taken[r.OID] })
	db.MatViews = slices.DeleteFunc(db.MatViews, func(v catalog.MatView) bool { return !taken[v.OID] })
	db.Sequences = slices.DeleteFunc(db.Sequences, func(s catalog.Sequence) bool { return s.Extension == "" && !taken[s.OID] })
	db.Index()
}

// takesSequence reports whether the position of a sequence is copied.
func (m *Schema) takesSequence(name pg.Name) bool {
	return slices.ContainsFunc(m.catalog.Sequences, func(s catalog.Sequence) bool {
		return s.Name() == name && !m.withoutData[s.OID] && (s.Extension == "" || m.taken == nil || slices.Contains(m.taken.Relations, s.OID))
	})
}

// takesRows tells, by its number, whether the rows of a table of the source are copied;
// nil where those of all are. As with pg_dump, patterns decide on tables of extensions too.
func (m *Schema) takesRows() func(oid uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken == nil {
		return nil
	}
	takes := lists.Set(m.taken.Relations)
	for _, oid := range m.taken.WithoutRows {
		delete(takes, oid)
	}
	return func(oid uint32) bool { return takes[oid] }
}

// prepareTarget makes the roles that the schema names and drops what is in its way,
// where the copy was asked to.
func (m *Migration) prepareTarget(ctx context.Context, target *pgx.Conn) error {
	existing, err := m.inTheWay(ctx, target)
	if err != nil {
		return &Refusal{err}
	}
	if m.Task.Options.Schema.Roles {
		source, err := m.Task.ConnectSource(ctx)
		if err != nil {
			return err
		}
		known, err := roles.Read(ctx, source)
		dbconn.CloseNow(source)
		if err != nil {
			return err
		}
		report, err := roles.Make(ctx, target, known, m.Task.Roles, nil, m.Task.Log)
		m.Findings.note(report.Findings)
		if err != nil {
			return err
		}
	}
	if len(existing) == 0 {
		return nil
	}
	if err := restore.DropExisting(ctx, target, m.Schema.Plan, existing); err != nil {
		return &Refusal{err}
	}
	m.Task.Log.Info().Int("objects", len(existing)).Msg("what the target had of them is dropped")
	return nil
}

// inTheWay lists what is to be dropped on the target, and asks whether it may be.
func (m *Migration) inTheWay(ctx context.Context, target *pgx.Conn) ([]restore.Existing, error) {
	if !m.Task.Options.Clean {
		return nil, nil
	}
	var begun bool // what is there has been restored by us
	if err := target.QueryRow(ctx, `SELECT EXISTS (SELECT FROM crossfade.item)`).Scan(&begun); err != nil {
		return nil, fmt.Errorf("read what was restored: %w", err)
	}
	if begun {
		return nil, nil
	}
	existing, err := restore.FindExisting(ctx, target, m.Schema.Plan)
	if err != nil || len(existing) == 0 {
		return nil, err
	}
	return existing, m.Task.Options.Allow(ctx, options.Removal{Target: m.Task.Target.Redacted(), Objects: existing})
}

// Refusal is an error of a copy that has changed nothing but what its journal is.
type Refusal struct{ error }

func (r *Refusal) Unwrap() error { return r.error }

// shut closes the fence on the target's tables, but where a one-shot copy is not
// alone there, on those that it copies only.
func (m *Rows) shut(ctx context.Context, target *pgx.Conn) error {
	var pick func(pg.Name) bool
	if m.task.oneShot() {
		pick = func(n pg.Name) bool { return m.schema.catalog.Lookup(n) != nil }
	}
	if err := journal.PrepareFenceOf(ctx, target, journal.Patience{LockTimeout: m.task.lockTimeout, Together: journal.Together}, true, pick); err != nil {
		return err
	}
	return journal.Seal(ctx, target)
}
