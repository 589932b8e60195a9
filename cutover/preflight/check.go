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
	Run  func(ctx context.Context) ([]answer.Finding, error)
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
	asked := ofBoth
	if p.pair.Options.Mode == inquiry.Run {
		asked = slices.Concat(ofBoth, ofRun)
	}
	checks := make([]Check, len(asked))
	for i, q := range asked {
		checks[i] = Check{Name: q.name, First: q.first, Run: func(ctx context.Context) ([]answer.Finding, error) { return q.ask(ctx, p.pair) }}
	}
	return checks
}

// Run asks every check and returns what was seen. A check that fails does not
// keep the others from being asked.
func (p *Preflight) Run(ctx context.Context) answer.Report {
	return Ask(ctx, p.Checks())
}

// Ask runs the checks one after the other, up to a First one that blocks.
func Ask(ctx context.Context, checks []Check) answer.Report {
	var r answer.Report
	for _, c := range checks {
		found, err := ask(ctx, c)
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

func ask(ctx context.Context, c Check) ([]answer.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, CheckTimeout)
	defer cancel()
	return c.Run(ctx)
}

// question is a check of a package, by the name that it has in a report.
type question struct {
	name  string
	ask   func(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error)
	first bool // as of Check
}

// ofBoth are asked for a copy and for a run, in the order of the report.
var ofBoth = []question{
	{name: "one database", ask: database.OneDatabase, first: true},
	{name: "left over run", ask: database.LeftOver, first: true},
	{name: "host", ask: server.Hosts},
	{name: "version", ask: server.Versions},
	{name: "encoding", ask: database.Encodings},
	{name: "collation", ask: database.Collations},
	{name: "source privileges", ask: privilege.OnSource},
	{name: "sequence privileges", ask: privilege.OnSequences},
	{name: "row security", ask: privilege.RowSecurity},
	{name: "role settings", ask: privilege.RoleSettings},
	{name: "target privileges", ask: privilege.OnTarget},
	{name: "target empty", ask: database.TargetEmpty},
	{name: "room", ask: server.DiskSpace},
	{name: "extensions", ask: extension.Compare},
	{name: "roles of the schema", ask: privilege.Grantees},
	{name: "objects for superusers", ask: privilege.SuperuserObjects},
	{name: "event triggers", ask: database.EventTriggers},
	{name: "workers", ask: extension.Workers},
	{name: "materialised views", ask: database.MaterialisedViews},
	{name: "partitions", ask: database.Partitions},
	{name: "expressions", ask: expression.Try},
	{name: "unlogged tables", ask: database.UnloggedTables},
	{name: "large objects", ask: database.LargeObjects},
	{name: "prepared transactions", ask: server.PreparedTransactions},
	{name: "old snapshots", ask: server.OldSnapshots},
	{name: "capacity", ask: server.Capacity},
}

// ofRun are asked for a run alone, after those.
var ofRun = []question{
	{name: "logins", ask: loginrole.Check},
	{name: "connections", ask: server.Connections},
	{name: "wal_level", ask: server.WALLevel},
	{name: "replication", ask: server.Replication},
	{name: "replica identity", ask: database.ReplicaIdentity},
	{name: "retention", ask: server.Retention},
	{name: "long transactions", ask: server.LongTransactions},
	{name: "neighbours", ask: server.Neighbours},
	{name: "numbers of backends", ask: database.BackendNumbers},
	{name: "way back", ask: server.Fallback},
}
