package inquiry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// DefaultLongTransaction is how old a transaction is when it is named: as
	// old as that it may keep a slot from being made, or a pause from ending.
	DefaultLongTransaction = time.Minute
	// DefaultConvertFor bounds how long rows are scanned that have to be converted, well below the
	// bound of a check. It is enough for some gigabytes.
	DefaultConvertFor = 15 * time.Second
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
	// Resume says that the target's journal belongs to this source: the tables on the target are
	// those of a run that is continued.
	Resume bool
	// LargeObjects says that large objects are to be copied.
	LargeObjects bool
	// Scope is what is taken along.
	Scope Scope
	// PlatformRole tells roles of hosting platforms, which are not carried over; nil for none.
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
	// LeftOver says which run or copy of Crossfade the two databases hold, and what to do with it;
	// an empty detail means none. It is not called if it is nil, or if a run is continued.
	LeftOver func(ctx context.Context) (detail, remedy string, err error)
	// OwnTables makes the tables of Crossfade's own that a run has on the source, in an
	// existing schema crossfade.
	OwnTables string
	// Sessions are how many connections of its own a run takes at most on source and target.
	Sessions [2]int
	// LongTransaction and ConvertFor replace DefaultLongTransaction and DefaultConvertFor where
	// they are not 0.
	LongTransaction, ConvertFor time.Duration
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
