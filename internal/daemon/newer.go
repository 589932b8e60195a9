package daemon

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/replicate/snapshot"
	"crossfade/schema"
	"crossfade/schema/catalog"
)

// dumping says how the schema of a side is dumped: each time the same, so that two
// archives can be compared.
func (m *migration) dumping(d pg.DSN, snapshot string) schema.DumpConfig {
	return schema.DumpConfig{DSN: d, Snapshot: snapshot, LockTimeout: m.opts.LockWaitTimeout, Filter: m.opts.Filter, NoACL: m.opts.NoACL, NoComments: m.opts.NoComments}
}

// definitionsAt reads what is kept with the first archive, but for the archive,
// under its snapshot: no table is copied under an older one.
func (m *migration) definitionsAt(ctx context.Context, held *snapshot.Holder) (journal.Definitions, error) {
	var d journal.Definitions
	conn, err := m.connectSource(ctx)
	if err != nil {
		return d, err
	}
	defer closeNow(conn)
	if err := held.Begin(ctx, conn, 0); err != nil {
		return d, err
	}
	digest, err := schema.TakeDigest(ctx, conn)
	if err != nil {
		return d, err
	}
	roles, err := schema.ReadRoles(ctx, conn)
	if err != nil {
		return d, err
	}
	text, err := json.Marshal(roles.WithoutValues())
	if err != nil {
		return d, fmt.Errorf("keep the roles: %w", err)
	}
	all, err := schema.ReadRowIdentities(ctx, conn)
	if err != nil {
		return d, err
	}
	d.Digest, d.Roles = digest.Definitions, string(text)
	d.Identities, err = identityRows(journal.SideSource, all)
	return d, err
}

// newest is the plan of the newest archive.
func (m *migration) newest() *schema.Plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newer != nil {
		return m.newer
	}
	return m.plan
}

// digest is that of the source's definitions as the newest archive has them.
func (m *migration) digest() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id.target.Digest
}

// takeNewer has what is still to come on the target made from a newer archive, and
// keeps it. The catalog is as old as the archive.
func (m *migration) takeNewer(ctx context.Context, target *pgx.Conn, raw []byte, digest string, db *catalog.Database) error {
	now, err := schema.ParseArchive(raw)
	if err != nil {
		return err
	}
	plan := schema.NewPlan(schema.Continued(m.plan.Archive, now))
	if err := journal.KeepNewer(ctx, target, raw, digest); err != nil {
		return err
	}
	m.mu.Lock()
	m.newer, m.catalog, m.rewrite = plan, db, nil
	m.id.target.ArchiveNow, m.id.target.Digest = raw, digest
	m.mu.Unlock()
	return nil
}

// lateChecks names the check constraints that the target gets with the decision.
func (m *migration) lateChecks() []string {
	if !m.hasPlan() {
		return nil
	}
	return m.newest().LateChecks()
}
