package preflight

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

// relations is the argument of onlyTaken: null for all of them.
func (s Scope) relations() []uint32 {
	if s.Taken == nil {
		return nil
	}
	return notNull(s.Taken.Relations)
}

// withRows are the relations whose rows are copied, as an argument like relations.
func (s Scope) withRows() []uint32 {
	switch {
	case s.SchemaOnly:
		return []uint32{}
	case s.Taken == nil:
		return nil
	}
	without := map[uint32]bool{}
	for _, oid := range s.Taken.WithoutRows {
		without[oid] = true
	}
	rows := []uint32{}
	for _, oid := range s.Taken.Relations {
		if !without[oid] {
			rows = append(rows, oid)
		}
	}
	return rows
}

// schemas is the argument for schemas whose functions and types are taken.
func (s Scope) schemas() []uint32 {
	if s.Taken == nil {
		return nil
	}
	return notNull(s.Taken.Schemas)
}

// everything reports whether what is in no schema is taken along.
func (s Scope) everything() bool { return s.Taken == nil || s.Taken.Everything }

func notNull(oids []uint32) []uint32 {
	if oids == nil {
		return []uint32{}
	}
	return oids
}
