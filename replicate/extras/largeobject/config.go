package largeobject

import (
	"cmp"
	"errors"
	"time"

	"crossfade/replicate/snapshot"
)

const (
	// pageSize is how many objects' metadata are read at once.
	pageSize = 1000
	// DefaultPieceBytes is how much of an object is read and written at once.
	DefaultPieceBytes = 1 << 20
	// firstBytes is how much of every object is asked for at first: most are not
	// larger, and groupObjects of them go in one round trip and one transaction.
	firstBytes   = 64 << 10
	groupObjects = 64
)

// Config says what is copied, from where to where.
type Config struct {
	Source snapshot.Connect
	Target snapshot.Connect

	// Snapshot is what the objects are read under. It belongs to the caller. If
	// nil, each page is read as it is then.
	Snapshot *snapshot.Holder

	// Roles maps the source's role names to the target's, where they differ.
	Roles map[string]string
	// Owners and Privileges say whether to carry these over; what the target's
	// role may not give is left out and counted.
	Owners, Privileges, Comments bool

	PieceBytes  int           // DefaultPieceBytes if 0
	LockTimeout time.Duration // for locks on the source; zero means without a bound

	// Progress, if set, is called after each commit on the target.
	Progress func(objects, bytes int64)
}

// Report is what was done.
type Report struct {
	Objects int64 // on the target now, those of an earlier call included
	Bytes   int64 // copied by this call
	// OwnersLeft counts the objects that belong to the target's own role, since it may not give
	// them to theirs; GrantsLeft the privileges of roles that the target does not have.
	OwnersLeft, GrantsLeft int64
}

func (c *Config) validate() error {
	if c.Source == nil || c.Target == nil {
		return errors.New("copy large objects: no way to connect given")
	}
	c.PieceBytes = cmp.Or(c.PieceBytes, DefaultPieceBytes)
	if c.PieceBytes < 1 || c.LockTimeout < 0 {
		return errors.New("copy large objects: negative bound")
	}
	return nil
}
