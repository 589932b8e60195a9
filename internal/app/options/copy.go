package options

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"crossfade/schema/archive"
	"crossfade/schema/restore"
)

// Filter picks schemas and tables by psql's patterns, as pg_dump does.
type Filter = archive.Filter

// Copy says what a one-shot copy takes along, and how. The zero value
// with Jobs copies everything into an empty database.
type Copy struct {
	Jobs int // COPY streams at once
	Filter

	Clean bool // drop what the target has of the source's objects first
	// Allow is asked before Clean drops anything, with all that it drops, once for each
	// database. An error refuses, and is the copy's. It goes with Clean.
	Allow      func(ctx context.Context, r Removal) error
	Schema     Schema
	SchemaOnly bool
	DataOnly   bool // the schema is on the target already, its tables empty
	// KeepCopied has tables stay that an earlier attempt has copied whole, though they
	// are of an older moment than the others.
	KeepCopied bool
	// ExitOnError makes the copy end at the first statement that the target refuses, instead of
	// doing the rest.
	ExitOnError bool
	// LargeObjects has large objects copied too.
	LargeObjects bool

	// AllDatabases has every database of the source's server copied in turn. The
	// database of the connection strings is then only the one to connect to first.
	AllDatabases bool
	// RenameDatabase gives databases another name on the target; with AllDatabases.
	RenameDatabase map[string]string

	// MaxRate bounds the copy, in bytes a second; 0 for no bound. It can be changed
	// at the control socket, whose path is Control, "" for none.
	MaxRate int64
	Control string
	Version string // of the program, for the control socket
}

// Validate says which options do not go together, and what to write instead.
func (o Copy) Validate() error {
	var errs []error
	if o.Jobs < 1 || o.Jobs > MaxJobs {
		errs = append(errs, fmt.Errorf("--jobs %d: write a number from 1 to %d", o.Jobs, MaxJobs))
	}
	for _, x := range []struct {
		a, b       bool
		flagA, why string
	}{
		{o.SchemaOnly, o.DataOnly, "--schema-only and --data-only", "leave both out to copy schema and data"},
		{o.Clean, o.DataOnly, "--clean and --data-only", "--data-only drops nothing; empty the tables with TRUNCATE"},
		{o.LargeObjects, o.SchemaOnly, "--large-objects and --schema-only", "large objects are data"},
		{o.AllDatabases, o.Filter.Includes(), "--all-databases and --include-…", "copy the databases that the pattern is for one by one"},
		{!o.AllDatabases, len(o.RenameDatabase) > 0, "--rename-database without --all-databases", "the new name is the one in --target"},
	} {
		if x.a && x.b {
			errs = append(errs, fmt.Errorf("%s do not go together: %s", x.flagA, x.why))
		}
	}
	if o.Clean && o.Allow == nil {
		errs = append(errs, errors.New("there is no terminal on which to ask what --clean may drop"))
	}
	if o.MaxRate < 0 {
		errs = append(errs, errors.New("--max-rate must not be negative: write a size such as 20M, or none"))
	}
	if o.Schema.LockWaitTimeout < 0 {
		errs = append(errs, fmt.Errorf("--lock-wait-timeout %v: write a time above 0, such as 20s", o.Schema.LockWaitTimeout))
	}
	if err := o.Filter.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Kept is the options that affect the result, as they are written on the command line. An
// interrupted copy is continued only under the same ones.
func (o Copy) Kept() string {
	words := o.Filter.Flags()
	for _, x := range []struct {
		on   bool
		flag string
	}{
		{o.Schema.NoOwner, "--no-owner"}, {o.Schema.NoACL, "--no-acl"}, {o.Schema.NoComments, "--no-comments"},
		{o.SchemaOnly, "--schema-only"}, {o.DataOnly, "--data-only"}, {o.LargeObjects, "--large-objects"},
	} {
		if x.on {
			words = append(words, x.flag)
		}
	}
	return strings.Join(words, " ")
}

// Renamed returns the name that a database of the source has on the target.
func (o Copy) Renamed(database string) string {
	return cmp.Or(o.RenameDatabase[database], database)
}

// UnknownRenames lists the databases that are to be renamed and do not exist.
func (o Copy) UnknownRenames(there []string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(o.RenameDatabase)), func(name string) bool { return slices.Contains(there, name) })
}

// Existing is an object of the target.
type Existing = restore.Existing

// Removal is what a copy is about to drop.
type Removal struct {
	Target  string // the place, without secrets
	Objects []Existing
}
