package migration

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/apply"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/changes"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// Schema is what is to be made on the target: the kept archive, and the source's catalog that goes
// with it.
type Schema struct {
	task     *Task
	findings *Findings

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
	db, err := askSource(ctx, m.task, held, 0, catalog.Read)
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
		withoutData = lists.Set(taken.WithoutRows)
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
	m.task.mu.Lock()
	m.path = path
	m.dumped, m.taken, m.withoutData = dumped, taken, withoutData
	m.newer, m.version = newer, pg.ServerVersion(target)/10000
	m.task.mu.Unlock()
	return nil
}

// Take sets the plan of an archive, and the source's catalog that goes with it.
func (m *Schema) Take(p *plan.Plan, db *catalog.Database) {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
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
	return m.task.onTarget(ctx, func(target *pgx.Conn) error {
		routes, err := apply.LoadRoutes(ctx, target)
		if err != nil {
			return err
		}
		m.SetRoutes(routes)
		return m.LoadPlan(ctx, target, nil)
	})
}

func (m *Schema) HasPlan() bool {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	return m.Plan != nil
}

// DecisionSQL writes the statements of the decision.
func (m *Schema) DecisionSQL() (*plan.DecisionSQL, error) {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
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

// Rewriting says what is changed in the definitions of the source's objects. It
// asks the target once which owners it can give them.
func (m *Schema) Rewriting(ctx context.Context, target *pgx.Conn) (plan.Rewrite, error) {
	m.task.mu.Lock()
	known := m.rewrite
	m.task.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	w := plan.Rewrite{Roles: m.task.Roles, Disordered: m.catalog.Disordered, Major: m.version, Path: m.path}
	neon, err := dbconn.IsNeon(ctx, target)
	if err != nil {
		return w, err
	}
	// A run follows by the stream what it has copied, and no stream has what is unlogged.
	w.KeepUnlogged = !neon && m.task.oneShot()
	if m.task.Options.Filter.SchemaIsWhole() {
		w.Database = m.task.Target.Database()
	}
	if !m.task.Options.Schema.NoOwner {
		var findings []finding.Finding
		if w.Owners, findings, err = m.Newest().ResolveOwners(ctx, target, m.task.Roles); err != nil {
			return w, err
		}
		m.findings.note(findings)
	}
	m.task.mu.Lock()
	m.rewrite = &w
	m.task.mu.Unlock()
	return w, nil
}

// oneShot reports whether this is the copy without a stream.
func (m *Task) oneShot() bool {
	return m.Identity.Target != nil && m.Identity.Target.Mode == runs.ModeCopy
}

// note tells what was left out, and keeps it for the report.
func (m *Findings) note(findings []finding.Finding) {
	for _, f := range findings {
		m.task.Log.Warn().Str("finding", f.String()).Msg("left out of the schema")
	}
	m.task.mu.Lock()
	m.findings = append(m.findings, findings...)
	m.task.mu.Unlock()
}

// markPath is what the journal keeps the source's search_path by.
const markPath = "search_path of the source"

// sourcePath is the search_path under which expressions that call users' functions are
// evaluated on the target: that of the source's role in its database, as it was when the schema
// was dumped, since bodies of functions have names that are found by way of it. It is "" where
// nothing would be evaluated.
func (m *Schema) sourcePath(ctx context.Context, target *pgx.Conn, plan *plan.Plan, db *catalog.Database) (string, error) {
	if !plan.CallsFunctions() && len(db.MatViews) == 0 {
		return "", nil
	}
	path, err := journal.LoadMark(ctx, target, markPath)
	if err != nil || path != "" {
		return path, err
	}
	if path, err = OwnSearchPath(ctx, m.task.Source); path == "" || err != nil {
		return "", err
	}
	return path, journal.SaveMark(ctx, target, markPath, path)
}

// OwnSearchPath reads the search_path that sessions of the connection string's role have by default in
// its database, as SET takes it.
func OwnSearchPath(ctx context.Context, dsn pg.DSN) (path string, err error) {
	source, err := pg.Connect(ctx, dsn, pg.WithName("settings"), pg.WithOwnSearchPath())
	if err != nil {
		return "", err
	}
	defer dbconn.CloseNow(source)
	err = source.QueryRow(ctx, `SELECT coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(s), ', ' ORDER BY i), '')
		FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS x (s, i)`).Scan(&path)
	return path, pg.Wrap(err, "read the source's search_path")
}

// connectRead opens a session at the source that rows are read by. Whatever plans a read of a table
// evaluates its index expressions.
func (m *Schema) connectRead(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.task.Source, append(m.RowOptions(), pg.WithName("copy"))...)
}

// connectRows opens a session at the target that rows are written by.
func (m *Schema) connectRows(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.task.Target, append(m.RowOptions(), pg.WithName("copy"), pg.WithKey(m.task.Identity.Target.Key))...)
}

// RowOptions are what sessions have in addition that read or write rows.
func (m *Schema) RowOptions() []pg.Option {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	if m.path == "" {
		return nil
	}
	return []pg.Option{pg.WithParam("search_path", m.path)}
}

func (m *Schema) SearchPath() string {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	return m.path
}
