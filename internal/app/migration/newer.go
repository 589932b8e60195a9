package migration

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

// Dumping says how the schema of a side is dumped: each time the same, so that two
// archives can be compared.
func (m *Schema) Dumping(d pg.DSN, snapshot string) archive.DumpConfig {
	return archive.DumpConfig{DSN: d, Snapshot: snapshot, LockTimeout: m.task.Options.Schema.LockWaitTimeout, Filter: m.task.Options.Filter, NoACL: m.task.Options.Schema.NoACL, NoComments: m.task.Options.Schema.NoComments}
}

// DefinitionsAt reads, under its snapshot, what is kept with the first archive, except for the
// archive itself: no table is copied under an older one.
func (m *Schema) DefinitionsAt(ctx context.Context, held *snapshot.Holder) (journal.Definitions, error) {
	var d journal.Definitions
	conn, err := m.task.ConnectSource(ctx)
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
	d.Identities, err = IdentityRows(journal.SideSource, all)
	return d, err
}

// Newest is the plan of the newest archive.
func (m *Schema) Newest() *plan.Plan {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	if m.newer != nil {
		return m.newer
	}
	return m.Plan
}

// Digest is that of the source's definitions as the newest archive has them.
func (m *Schema) Digest() string {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	return m.task.Identity.Target.Digest
}

// TakeNewer keeps a newer archive; what has yet to be made on the target is then made from it. The
// catalog is as old as the archive.
func (m *Schema) TakeNewer(ctx context.Context, target *pgx.Conn, raw []byte, digest string, db *catalog.Database) error {
	now, err := plan.ParseArchive(raw)
	if err != nil {
		return err
	}
	plan := plan.New(changes.Continued(m.Plan.Archive, now))
	if err := journal.KeepNewer(ctx, target, raw, digest); err != nil {
		return err
	}
	m.task.mu.Lock()
	m.newer, m.catalog, m.rewrite = plan, db, nil
	m.task.Identity.Target.ArchiveNow, m.task.Identity.Target.Digest = raw, digest
	m.task.mu.Unlock()
	return nil
}

// LateChecks names the check constraints that the target gets with the decision.
func (m *Schema) LateChecks() []string {
	if !m.HasPlan() {
		return nil
	}
	return m.Newest().LateChecks()
}

// IdentityRows are the identities of a side as the journal keeps them.
func IdentityRows(side string, all map[uint32]fingerprint.RowIdentity) ([]journal.Identity, error) {
	out := make([]journal.Identity, 0, len(all))
	for oid, r := range all {
		text, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("keep identity of %s: %w", r.Display(), err)
		}
		out = append(out, journal.Identity{Side: side, OID: oid, State: string(text)})
	}
	return out, nil
}
