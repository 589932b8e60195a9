package preflighttest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// RoleFixture is a pair of databases with roles of its own on both sides, whose names begin with
// Prefix.
type RoleFixture struct {
	*Fixture
	Prefix string
}

// NewRoleFixture makes both databases, with no roles yet.
func NewRoleFixture(t *testing.T) *RoleFixture {
	t.Helper()
	h := &RoleFixture{Fixture: New(t), Prefix: "l" + strings.ToLower(rand.Text()[:8]) + "_"}
	pgtest.Exec(t, h.TargetAdmin, "GRANT CONNECT ON DATABASE "+h.TargetDSN.Database()+" TO PUBLIC")
	t.Cleanup(func() {
		h.sweep(t, pgtest.Shared(t, pgtest.Source), h.SourceDSN)
		h.sweep(t, pgtest.Shared(t, pgtest.Target), h.TargetDSN)
	})
	return h
}

// sweep drops the roles of the fixture, also those that a remedy has made or named otherwise.
func (h *RoleFixture) sweep(t *testing.T, c *pgcluster.Cluster, dsn pg.DSN) {
	t.Helper()
	ctx := context.Background()
	conn, err := pg.Connect(ctx, c.AdminDSN("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)", h.Prefix)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, name := range names {
		pgtest.DropRole(t, c, dsn.Database(), pg.QuoteIdent(name))
	}
}

// Role makes a role of the fixture on a side, on the source with the right to connect.
func (h *RoleFixture) Role(t *testing.T, name, onSource, onTarget string) string {
	t.Helper()
	name = h.Prefix + name
	if onSource != "" {
		pgtest.Exec(t, h.SourceAdmin, "CREATE ROLE "+pg.QuoteIdent(name)+" "+onSource+"; GRANT CONNECT ON DATABASE "+h.SourceDSN.Database()+" TO "+pg.QuoteIdent(name))
	}
	if onTarget != "" {
		pgtest.Exec(t, h.TargetAdmin, "CREATE ROLE "+pg.QuoteIdent(name)+" "+onTarget)
	}
	return name
}
