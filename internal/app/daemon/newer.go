package daemon

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/changes"
	"crossfade/schema/fingerprint"
	"crossfade/schema/plan"
	"crossfade/schema/roles"
)

// dumping says how the schema of a side is dumped: each time the same, so that two
// archives can be compared.
func (m *migration) dumping(d pg.DSN, snapshot string) archive.DumpConfig {
	return archive.DumpConfig{DSN: d, Snapshot: snapshot, LockTimeout: m.opts.LockWaitTimeout, Filter: m.opts.Filter, NoACL: m.opts.NoACL, NoComments: m.opts.NoComments}
}

// definitionsAt reads what is kept with the first archive, but for the archive,
// under its snapshot: no table is copied under an older one.
func (m *migration) definitionsAt(ctx context.Context, held *snapshot.Holder) (journal.Definitions, error) {
	var d journal.Definitions
	conn, err := m.connectSource(ctx)
	if err != nil {
		return d, err
	}
	defer dbconn.CloseNow(conn)
	if err := held.Begin(ctx, conn, 0); err != nil {
		return d, err
	}
	digest, err := fingerprint.TakeDigest(ctx, conn)
	if err != nil {
		return d, err
	}
	roles, err := roles.Read(ctx, conn)
	if err != nil {
		return d, err
	}
	text, err := json.Marshal(roles.WithoutValues())
	if err != nil {
		return d, fmt.Errorf("keep the roles: %w", err)
	}
	all, err := fingerprint.ReadRowIdentities(ctx, conn)
	if err != nil {
		return d, err
	}
	d.Digest, d.Roles = digest.Definitions, string(text)
	d.Identities, err = identityRows(journal.SideSource, all)
	return d, err
}

// newest is the plan of the newest archive.
func (m *migration) newest() *plan.Plan {
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
	return m.id.Target.Digest
}

// takeNewer has what is still to come on the target made from a newer archive, and
// keeps it. The catalog is as old as the archive.
func (m *migration) takeNewer(ctx context.Context, target *pgx.Conn, raw []byte, digest string, db *catalog.Database) error {
	now, err := plan.ParseArchive(raw)
	if err != nil {
		return err
	}
	plan := plan.New(changes.Continued(m.plan.Archive, now))
	if err := journal.KeepNewer(ctx, target, raw, digest); err != nil {
		return err
	}
	m.mu.Lock()
	m.newer, m.catalog, m.rewrite = plan, db, nil
	m.id.Target.ArchiveNow, m.id.Target.Digest = raw, digest
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
