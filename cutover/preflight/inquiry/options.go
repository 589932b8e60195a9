package inquiry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
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

// Pair is one source and one target, and what is asked for. It borrows the connections, which
// pg.Connect opened as the roles of the migration, and is not safe for concurrent use.
type Pair struct {
	Source, Target *pgx.Conn
	Options        Options // with their defaults
}

// New returns a pair of two open connections, which stay the caller's.
func New(source, target *pgx.Conn, o Options) (*Pair, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.LongTransaction = cmp.Or(o.LongTransaction, DefaultLongTransaction)
	o.ConvertFor = cmp.Or(o.ConvertFor, DefaultConvertFor)
	if o.PlatformRole == nil {
		o.PlatformRole = func(string) bool { return false }
	}
	return &Pair{Source: source, Target: target, Options: o}, nil
}

// Scope says what is taken along. The zero value is everything, into an empty
// target; a run narrows down privileges and roles alone.
type Scope struct {
	Taken      *Taken // only this; nil for everything
	Clean      bool   // what the target has of the source's objects is dropped first
	SchemaOnly bool
	DataOnly   bool // the schema is on the target
	NoACL      bool // privileges are left out
	MakeRoles  bool // the source's roles are made on the target first
}

// Taken is what patterns take along of the source, by the numbers of the objects there.
type Taken struct {
	Everything  bool     // also what is in no schema, such as extensions and event triggers
	Schemas     []uint32 // whose functions, types and the like are taken
	Relations   []uint32 // tables, views and sequences
	WithoutRows []uint32 // tables and sequences among them whose rows are not
}

// Relations is the argument of OnlyTaken: null for all of them.
func (s Scope) Relations() []uint32 {
	if s.Taken == nil {
		return nil
	}
	return lists.NotNil(s.Taken.Relations)
}

// WithRows are the relations whose rows are copied, as an argument like relations.
func (s Scope) WithRows() []uint32 {
	switch {
	case s.SchemaOnly:
		return []uint32{}
	case s.Taken == nil:
		return nil
	}
	without := lists.Set(s.Taken.WithoutRows)
	return lists.NotNil(lists.Filter(s.Taken.Relations, func(oid uint32) bool { return !without[oid] }))
}

// Schemas is the argument for schemas whose functions and types are taken.
func (s Scope) Schemas() []uint32 {
	if s.Taken == nil {
		return nil
	}
	return lists.NotNil(s.Taken.Schemas)
}

// Everything reports whether what is in no schema is taken along.
func (s Scope) Everything() bool { return s.Taken == nil || s.Taken.Everything }

// Takes reports whether a relation of the source is copied.
func (s Scope) Takes(oid uint32) bool {
	return s.Taken == nil || slices.Contains(s.Taken.Relations, oid)
}

// Logins say which roles log in, and as which role after the switch. Functions that are nil mean
// that there are none.
type Logins struct {
	// TargetRole is the role of --target. No other role should log in as it: it owns what the
	// migration keeps.
	TargetRole string
	// Mapped are roles of the source that log in as another one of the target, by the
	// operator's word; NoLogin for those that do not log in there.
	Mapped map[string]string
	// Accepted are the roles that may have other rights on the target, by the operator's word.
	Accepted []string
	// LetsIn tells whether the proxy lets a role in: it knows what to check its client with.
	LetsIn func(role string) bool
	// Enters tells whether it is known how a role of the source logs in to the target.
	Enters func(role string) bool
	// Full tells what the target said when it had no session for a role, "" where it had.
	Full func(role string) string
}

// NoLogin is the value in Mapped of a role that may not log in on the target.
const NoLogin = "-"
