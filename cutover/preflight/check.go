package preflight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
)

const (
	// CheckTimeout bounds one check. Each is a handful of catalog queries, which
	// take seconds only where there are very many tables.
	CheckTimeout = 30 * time.Second
	// DefaultLongTransaction is how old a transaction is when it is named: as
	// old as that it may keep a slot from being made, or a pause from ending.
	DefaultLongTransaction = time.Minute
)

// Mode is what the migration is to be.
type Mode string

// The modes, named after the commands.
const (
	Copy Mode = "copy" // one snapshot, nothing follows: needs less of the source
	Run  Mode = "run"  // copy, follow, cutover
)

// Options say what the connections do not.
type Options struct {
	Mode Mode
	// Fallback says that a way back is wanted, which the target must allow.
	Fallback bool
	// Resume says that the target's journal belongs to this source: the tables
	// on the target are those of a run that goes on.
	Resume bool
	// LargeObjects says that large objects are to be copied.
	LargeObjects bool
	// Scope is what is taken along.
	Scope Scope
	// PlatformRole tells roles of hosting platforms, which are not carried over;
	// nil for none.
	PlatformRole func(name string) bool
	// SourceHost and TargetHost are the names that the connection strings give.
	SourceHost, TargetHost string
	// OpenReplication opens a logical walsender session on the source and closes
	// it. Needed for Run.
	OpenReplication func(ctx context.Context) error
	// OpenSource opens one more session on the source, with the search_path that the role has.
	OpenSource func(ctx context.Context) (*pgx.Conn, error)
	// PgDumpMajor returns the major version of the pg_dump that will be used; an
	// error means that there is none.
	PgDumpMajor func(ctx context.Context) (int, error)
	// Logins say who logs in as whom after the switch; for Run.
	Logins Logins
	// LeftOver says what run or copy of Crossfade the two databases hold, and what to do with it; a
	// detail of "" is nothing. nil is not asked, and neither where a run goes on.
	LeftOver func(ctx context.Context) (detail, remedy string, err error)
	// OwnTables makes the tables of Crossfade's own that a run has on the source, in an
	// existing schema crossfade.
	OwnTables string
	// Sessions are how many connections of its own a run takes at most on source and target.
	Sessions [2]int
	// LongTransaction replaces DefaultLongTransaction when it is not 0.
	LongTransaction time.Duration
}

// Validate refuses options that leave a check without what it needs.
func (o Options) Validate() error {
	switch {
	case o.Mode != Copy && o.Mode != Run:
		return fmt.Errorf("preflight: mode %q, want %q or %q", o.Mode, Copy, Run)
	case o.PgDumpMajor == nil:
		return errors.New("preflight: no way to ask pg_dump for its version")
	case o.OpenSource == nil:
		return errors.New("preflight: no way to open a session on the source")
	case o.Mode == Run && o.OpenReplication == nil:
		return errors.New("preflight: no way to open a replication connection")
	}
	return nil
}

// Check is one question and how it is answered. An error says that it could
// not be.
type Check struct {
	Name string
	Run  func(ctx context.Context) ([]answer.Finding, error)
	// First says that a blocker of it makes the questions after it pointless: they would be
	// asked of the wrong database, and tell its cause once more.
	First bool
}

// Preflight asks one source and one target. It borrows the connections, which
// pg.Connect opened as the roles of the migration, and is not safe for
// concurrent use.
type Preflight struct {
	source, target *pgx.Conn
	opts           Options
	convertFor     time.Duration // how long rows are looked through
}

// New returns a preflight over two open connections, which stay the caller's.
func New(source, target *pgx.Conn, o Options) (*Preflight, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.LongTransaction == 0 {
		o.LongTransaction = DefaultLongTransaction
	}
	if o.PlatformRole == nil {
		o.PlatformRole = func(string) bool { return false }
	}
	return &Preflight{source: source, target: target, opts: o, convertFor: convertTimeout}, nil
}

// Checks returns the checks that the mode needs, in the order of the report.
func (p *Preflight) Checks() []Check {
	checks := []Check{
		{Name: "one database", Run: p.checkOneDatabase, First: true},
		{Name: "left over run", Run: p.checkLeftOver, First: true},
		{Name: "host", Run: p.checkHosts},
		{Name: "version", Run: p.checkVersions},
		{Name: "encoding", Run: p.checkEncodings},
		{Name: "collation", Run: p.checkCollations},
		{Name: "source privileges", Run: p.checkSourcePrivileges},
		{Name: "sequence privileges", Run: p.checkSequencePrivileges},
		{Name: "row security", Run: p.checkRowSecurity},
		{Name: "role settings", Run: p.checkRoleSettings},
		{Name: "target privileges", Run: p.checkTargetPrivileges},
		{Name: "target empty", Run: p.checkTargetEmpty},
		{Name: "room", Run: p.checkRoom},
		{Name: "extensions", Run: p.checkExtensions},
		{Name: "roles of the schema", Run: p.checkGrantees},
		{Name: "objects for superusers", Run: p.checkSuperuserObjects},
		{Name: "event triggers", Run: p.checkEventTriggers},
		{Name: "workers", Run: p.checkWorkers},
		{Name: "materialised views", Run: p.checkMatViews},
		{Name: "partitions", Run: p.checkPartitions},
		{Name: "expressions", Run: p.checkExpressions},
		{Name: "unlogged tables", Run: p.checkUnlogged},
		{Name: "large objects", Run: p.checkLargeObjects},
		{Name: "prepared transactions", Run: p.checkPrepared},
		{Name: "old snapshots", Run: p.checkOldSnapshots},
		{Name: "capacity", Run: p.checkCapacity},
	}
	if p.opts.Mode == Run {
		checks = append(checks,
			Check{Name: "logins", Run: p.checkLogins},
			Check{Name: "connections", Run: p.checkConnections},
			Check{Name: "wal_level", Run: p.checkWALLevel},
			Check{Name: "replication", Run: p.checkReplication},
			Check{Name: "replica identity", Run: p.checkReplicaIdentity},
			Check{Name: "retention", Run: p.checkRetention},
			Check{Name: "long transactions", Run: p.checkLongTransactions},
			Check{Name: "neighbours", Run: p.checkNeighbours},
			Check{Name: "numbers of backends", Run: p.checkBackendNumbers},
			Check{Name: "way back", Run: p.checkFallback},
		)
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
