package migration

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/runs"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// Rewriting says what is changed in the definitions of the source's objects. It
// asks the target once which owners it can give them.
func (m *Schema) Rewriting(ctx context.Context, target *pgx.Conn) (plan.Rewrite, error) {
	m.mu.Lock()
	known := m.rewrite
	m.mu.Unlock()
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
	m.mu.Lock()
	m.rewrite = &w
	m.mu.Unlock()
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
	m.mu.Lock()
	m.findings = append(m.findings, findings...)
	m.mu.Unlock()
}
