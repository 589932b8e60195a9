package inquiry

import (
	"slices"

	"crossfade/internal/base/lists"
)

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
	return NotNull(s.Taken.Relations)
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
	rows := []uint32{}
	for _, oid := range s.Taken.Relations {
		if !without[oid] {
			rows = append(rows, oid)
		}
	}
	return rows
}

// Schemas is the argument for schemas whose functions and types are taken.
func (s Scope) Schemas() []uint32 {
	if s.Taken == nil {
		return nil
	}
	return NotNull(s.Taken.Schemas)
}

// Everything reports whether what is in no schema is taken along.
func (s Scope) Everything() bool { return s.Taken == nil || s.Taken.Everything }

// Takes reports whether a relation of the source is copied.
func (s Scope) Takes(oid uint32) bool {
	return s.Taken == nil || slices.Contains(s.Taken.Relations, oid)
}

// NotNull is a list that goes over as an empty one, and never as null, which is none.
func NotNull(oids []uint32) []uint32 {
	if oids == nil {
		return []uint32{}
	}
	return oids
}
