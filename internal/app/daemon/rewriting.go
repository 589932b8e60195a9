package daemon

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/runs"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// rewriting says what is changed in the definitions of the source's objects. It
// asks the target once which owners it can give them.
func (m *migration) rewriting(ctx context.Context, target *pgx.Conn) (plan.Rewrite, error) {
	m.mu.Lock()
	known := m.rewrite
	m.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	w := plan.Rewrite{Roles: m.roles, Disordered: m.catalog.Disordered, Major: m.version, Path: m.path}
	neon, err := dbconn.IsNeon(ctx, target)
	if err != nil {
		return w, err
	}
	// A run follows by the stream what it has copied, and no stream has what is unlogged.
	w.KeepUnlogged = !neon && m.oneShot()
	if m.opts.Filter.SchemaIsWhole() {
		w.Database = m.target.Database()
	}
	if !m.opts.NoOwner {
		var findings []finding.Finding
		if w.Owners, findings, err = m.newest().ResolveOwners(ctx, target, m.roles); err != nil {
			return w, err
		}
		m.note(findings)
	}
	m.mu.Lock()
	m.rewrite = &w
	m.mu.Unlock()
	return w, nil
}

// oneShot reports whether this is the copy without a stream.
func (m *migration) oneShot() bool { return m.id.Target != nil && m.id.Target.Mode == runs.ModeCopy }

// note tells what was left out, and keeps it for the report.
func (m *migration) note(findings []finding.Finding) {
	for _, f := range findings {
		m.log.Warn().Str("finding", f.String()).Msg("left out of the schema")
	}
	m.mu.Lock()
	m.findings = append(m.findings, findings...)
	m.mu.Unlock()
}
