package preflight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
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
	// PgDumpMajor returns the major version of the pg_dump that will be used; an
	// error means that there is none.
	PgDumpMajor func(ctx context.Context) (int, error)
	// Logins say who logs in as whom behind the switch; for Run.
	Logins Logins
	// OwnTables makes the tables of Crossfade's own that a run has on the source, in an
	// existing schema crossfade.
	OwnTables string
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
	case o.Mode == Run && o.OpenReplication == nil:
		return errors.New("preflight: no way to open a replication connection")
	}
	return nil
}

// Check is one question and how it is answered. An error says that it could
// not be.
type Check struct {
	Name string
	Run  func(ctx context.Context) ([]Finding, error)
}

// Preflight asks one source and one target. It borrows the connections, which
// pg.Connect opened as the roles of the migration, and is not safe for
// concurrent use.
type Preflight struct {
	source, target *pgx.Conn
	opts           Options
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
	return &Preflight{source: source, target: target, opts: o}, nil
}

// Checks returns the checks that the mode needs, in the order of the report.
func (p *Preflight) Checks() []Check {
	checks := []Check{
		{"one database", p.checkOneDatabase},
		{"host", p.checkHosts},
		{"version", p.checkVersions},
		{"encoding", p.checkEncodings},
		{"collation", p.checkCollations},
		{"source privileges", p.checkSourcePrivileges},
		{"sequence privileges", p.checkSequencePrivileges},
		{"row security", p.checkRowSecurity},
		{"role settings", p.checkRoleSettings},
		{"target privileges", p.checkTargetPrivileges},
		{"target empty", p.checkTargetEmpty},
		{"room", p.checkRoom},
		{"extensions", p.checkExtensions},
		{"roles of the schema", p.checkGrantees},
		{"objects for superusers", p.checkSuperuserObjects},
		{"event triggers", p.checkEventTriggers},
		{"workers", p.checkWorkers},
		{"materialised views", p.checkMatViews},
		{"partitions", p.checkPartitions},
		{"unlogged tables", p.checkUnlogged},
		{"large objects", p.checkLargeObjects},
		{"prepared transactions", p.checkPrepared},
		{"old snapshots", p.checkOldSnapshots},
		{"capacity", p.checkCapacity},
	}
	if p.opts.Mode == Run {
		checks = append(checks,
			Check{"logins", p.checkLogins},
			Check{"wal_level", p.checkWALLevel},
			Check{"replication", p.checkReplication},
			Check{"replica identity", p.checkReplicaIdentity},
			Check{"retention", p.checkRetention},
			Check{"long transactions", p.checkLongTransactions},
			Check{"neighbours", p.checkNeighbours},
			Check{"numbers of backends", p.checkBackendNumbers},
			Check{"way back", p.checkFallback},
		)
	}
	return checks
}

// Run asks every check and returns what was seen. A check that fails does not
// keep the others from being asked.
func (p *Preflight) Run(ctx context.Context) Report {
	return Ask(ctx, p.Checks())
}

// Ask runs the checks one after the other.
func Ask(ctx context.Context, checks []Check) Report {
	var r Report
	for _, c := range checks {
		found, err := ask(ctx, c)
		r.Findings = append(r.Findings, found...)
		if err != nil {
			r.Incomplete = append(r.Incomplete, Incomplete{Check: c.Name, Err: err})
		}
	}
	return r
}

func ask(ctx context.Context, c Check) ([]Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, CheckTimeout)
	defer cancel()
	return c.Run(ctx)
}
