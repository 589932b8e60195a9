package preflight

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/database"
	"crossfade/cutover/preflight/expression"
	"crossfade/cutover/preflight/extension"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/loginrole"
	"crossfade/cutover/preflight/privilege"
	"crossfade/cutover/preflight/server"
)

// CheckTimeout bounds one check. Each is a handful of catalog queries, which
// take seconds only where there are very many tables.
const CheckTimeout = 30 * time.Second

// Check is one question and how it is answered. An error says that it could not be.
type Check struct {
	Name string
	Run  func(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error)
	// First says that a blocker of it makes the questions after it pointless: they would be
	// asked of the wrong database, and tell its cause once more.
	First bool
}

// Preflight asks one source and one target. It borrows the connections, which pg.Connect opened as
// the roles of the migration, and is not safe for concurrent use.
type Preflight struct{ pair *inquiry.Pair }

// New returns a preflight over two open connections, which stay the caller's.
func New(source, target *pgx.Conn, o inquiry.Options) (*Preflight, error) {
	p, err := inquiry.New(source, target, o)
	if err != nil {
		return nil, err
	}
	return &Preflight{p}, nil
}

// Checks returns the checks that the mode needs, in the order of the report.
func (p *Preflight) Checks() []Check {
	if p.pair.Options.Mode == inquiry.Run {
		return slices.Concat(ofBoth, ofRun)
	}
	return ofBoth
}

// Run asks every check and returns what was seen. A check that fails does not
// keep the others from being asked.
func (p *Preflight) Run(ctx context.Context) answer.Report {
	return Ask(ctx, p.pair, p.Checks())
}

// Ask runs the checks one after the other, up to a First one that blocks.
func Ask(ctx context.Context, p *inquiry.Pair, checks []Check) answer.Report {
	var r answer.Report
	for _, c := range checks {
		found, err := ask(ctx, p, c)
		r.Findings = append(r.Findings, found...)
		if err != nil {
			r.Incomplete = append(r.Incomplete, answer.Incomplete{Check: c.Name, Err: err})
		}
		if c.First && len(r.Of(answer.Blocker)) > 0 {
			break
		}
	}
	return r
}

func ask(ctx context.Context, p *inquiry.Pair, c Check) ([]answer.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, CheckTimeout)
	defer cancel()
	return c.Run(ctx, p)
}

// ofBoth are asked for a copy and for a run, in the order of the report.
var ofBoth = []Check{
	{Name: "one database", Run: database.OneDatabase, First: true},
	{Name: "left over run", Run: database.LeftOver, First: true},
	{Name: "host", Run: server.Hosts},
	{Name: "version", Run: server.Versions},
	{Name: "encoding", Run: database.Encodings},
	{Name: "collation", Run: database.Collations},
	{Name: "source privileges", Run: privilege.OnSource},
	{Name: "sequence privileges", Run: privilege.OnSequences},
	{Name: "row security", Run: privilege.RowSecurity},
	{Name: "role settings", Run: privilege.RoleSettings},
	{Name: "target privileges", Run: privilege.OnTarget},
	{Name: "target empty", Run: database.TargetEmpty},
	{Name: "room", Run: server.DiskSpace},
	{Name: "extensions", Run: extension.Compare},
	{Name: "roles of the schema", Run: privilege.Grantees},
	{Name: "objects for superusers", Run: privilege.SuperuserObjects},
	{Name: "event triggers", Run: database.EventTriggers},
	{Name: "workers", Run: extension.Workers},
	{Name: "materialised views", Run: database.MaterialisedViews},
	{Name: "partitions", Run: database.Partitions},
	{Name: "expressions", Run: expression.Try},
	{Name: "unlogged tables", Run: database.UnloggedTables},
	{Name: "large objects", Run: database.LargeObjects},
	{Name: "prepared transactions", Run: server.PreparedTransactions},
	{Name: "old snapshots", Run: server.OldSnapshots},
	{Name: "capacity", Run: server.Capacity},
}

// ofRun are asked for a run alone, after those.
var ofRun = []Check{
	{Name: "logins", Run: loginrole.Check},
	{Name: "connections", Run: server.Connections},
	{Name: "wal_level", Run: server.WALLevel},
	{Name: "replication", Run: server.Replication},
	{Name: "replica identity", Run: database.ReplicaIdentity},
	{Name: "retention", Run: server.Retention},
	{Name: "long transactions", Run: server.LongTransactions},
	{Name: "neighbours", Run: server.Neighbours},
	{Name: "numbers of backends", Run: database.BackendNumbers},
	{Name: "way back", Run: server.Fallback},
}
