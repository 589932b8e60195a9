package migration

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/replicate/apply"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/changes"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// Schema is what is to be made on the target: the kept archive, and the source's catalog that goes
// with it.
type Schema struct {
	task     *Task
	findings *Findings

	mu          *sync.Mutex
	routes      map[uint32]pg.Name // leaves that are written through a partitioned table
	Plan        *plan.Plan         // of the kept archive
	newer       *plan.Plan         // of an archive that was made since, with the kept one's numbers; nil for none
	dumped      map[uint32]bool    // oids of the tables in it; one that was made later is not on the target
	withoutData map[uint32]bool    // tables and sequences that come without what is in them
	taken       *archive.Taken     // what the patterns take along; nil for everything
	catalog     *catalog.Database  // the source's, as old as the archive or read again
	version     int                // the target's major version
	path        string             // search_path for expressions that call users' functions, as SET takes it; "" where there are none
	rewrite     *plan.Rewrite      // what is changed in the archive's definitions, once it is known
}

// LoadPlan parses the kept archive and reads the catalog that goes with it: under
// the archive's own snapshot while that is held, else as it is now. DDL since
// then is found by comparing the definitions while the run follows (C20).
func (m *Schema) LoadPlan(ctx context.Context, target *pgx.Conn, held *snapshot.Holder) error {
	archive, err := plan.ParseArchive(m.task.Identity.Target.Archive)
	if err != nil {
		return err
	}
	source, err := m.task.ConnectSource(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(source)
	if held != nil {
		if err := held.Begin(ctx, source, 0); err != nil {
			return err
		}
	}
	db, err := catalog.Read(ctx, source)
	if err != nil {
		return err
	}
	dumped := map[uint32]bool{}
	for _, e := range archive.Entries {
		if e.Kind == "TABLE" {
			dumped[e.OID] = true
		}
	}
	if m.task.oneShot() {
		narrow(db, archive)
	}
	taken, err := m.task.Options.Filter.Take(ctx, m.task.Source)
	if err != nil {
		return err
	}
	withoutData := map[uint32]bool{}
	if taken != nil {
		for _, oid := range taken.WithoutRows {
			withoutData[oid] = true
		}
	}
	var newer *plan.Plan
	if raw := m.task.Identity.Target.ArchiveNow; raw != nil {
		now, err := plan.ParseArchive(raw)
		if err != nil {
			return err
		}
		newer = plan.New(changes.Continued(archive, now))
	}
	plan := plan.New(archive)
	path, err := m.sourcePath(ctx, target, plan, db)
	if err != nil {
		return err
	}
	m.Take(plan, db)
	m.mu.Lock()
	m.path = path
	m.dumped, m.taken, m.withoutData = dumped, taken, withoutData
	m.newer, m.version = newer, pg.ServerVersion(target)/10000
	m.mu.Unlock()
	return nil
}

// Take sets the plan of an archive, and the source's catalog that goes with it.
func (m *Schema) Take(p *plan.Plan, db *catalog.Database) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Plan, m.catalog = p, db
}

func (m *Schema) Restore(ctx context.Context, part plan.Part, conns []*pgx.Conn) error {
	return m.restoreWith(ctx, part, restore.Config{Conns: conns})
}

func (m *Schema) restoreWith(ctx context.Context, part plan.Part, cfg restore.Config) error {
	cfg.GoOn, cfg.Recorded = m.task.goesOn(), true
	r, err := m.restorePart(ctx, part, cfg)
	for i, f := range r.Refused {
		if f.SQLSTATE == pg.CodeUniqueViolation || f.SQLSTATE == pg.CodeExclusionViolation {
			r.Refused[i].Remedy = "rows contradict it, which the source's own index should have kept out: remove them on the target, and on the source, and REINDEX there"
		}
	}
	m.findings.refuse(string(part), r.Refused)
	return err
}

func (m *Schema) restorePart(ctx context.Context, part plan.Part, cfg restore.Config) (restore.Report, error) {
	rewrite, err := m.Rewriting(ctx, cfg.Conns[0])
	if err != nil {
		return restore.Report{}, err
	}
	cfg.Rewrite, cfg.Log = rewrite, m.task.Log
	planned := m.Plan
	if part == plan.Decision || part == plan.Last {
		planned = m.Newest()
	}
	r, err := restore.Restore(ctx, planned, part, cfg)
	m.findings.note(r.Findings)
	return r, err
}

// ReadPlan reads the kept archive again, for what follows a decision.
func (m *Schema) ReadPlan(ctx context.Context) error {
	target, err := m.task.ConnectTarget(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(target)
	routes, err := apply.LoadRoutes(ctx, target)
	if err != nil {
		return err
	}
	m.SetRoutes(routes)
	return m.LoadPlan(ctx, target, nil)
}

func (m *Schema) HasPlan() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Plan != nil
}

// DecisionSQL writes the statements of the decision.
func (m *Schema) DecisionSQL() (*plan.DecisionSQL, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Plan == nil {
		return nil, fmt.Errorf("the schema has not been read yet: wait until the phase is following")
	}
	planned := m.Plan
	if m.newer != nil {
		planned = m.newer
	}
	sql, err := planned.DecisionSQL(plan.DecisionConfig{Source: m.catalog, Target: m.version, Roles: m.task.Roles, Path: m.path})
	if err != nil {
		return nil, err
	}
	return &sql, nil
}
