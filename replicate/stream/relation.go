package stream

import (
	"slices"

	"crossfade/internal/base/pg"
)

// Replica identities as a Relation message gives them (pg_class.relreplident).
const (
	IdentityDefault byte = 'd' // the primary key
	IdentityNothing byte = 'n'
	IdentityFull    byte = 'f' // all columns
	IdentityIndex   byte = 'i'
)

// Relation is one table as the source described it at one position of its WAL.
// It never changes once made; a later description makes a new Relation. Two
// changes with the same *Relation have the same columns.
type Relation struct {
	ID       uint32 // the source's oid
	Name     pg.Name
	Identity byte
	Columns  []Column
}

// Column is one published column. Generated columns and dropped ones are not among them.
type Column struct {
	Name    string
	Key     bool // part of the replica identity
	TypeOID uint32
	TypeMod int32
	// Type is the name of the base type, for types that are not built in
	// (oid from 10000 on); otherwise zero.
	Type pg.Name
}

func (r *Relation) equal(o *Relation) bool {
	return r.ID == o.ID && r.Name == o.Name && r.Identity == o.Identity && slices.Equal(r.Columns, o.Columns)
}

// HasKey reports whether the relation has a replica identity other than FULL,
// so that changes carry key columns.
func (r *Relation) HasKey() bool {
	if r.Identity == IdentityFull {
		return false
	}
	return slices.ContainsFunc(r.Columns, func(c Column) bool { return c.Key })
}
