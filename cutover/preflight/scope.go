package preflight

// Scope says what is taken along. The zero value is everything, into an empty
// target; a run narrows down privileges and roles alone.
type Scope struct {
	Partial    bool // only what matches patterns
	Clean      bool // what the target has of the source's objects is dropped first
	SchemaOnly bool
	DataOnly   bool // the schema is on the target
	NoACL      bool // privileges are left out
	MakeRoles  bool // the source's roles are made on the target first
}

// ofObjects tempers findings about single objects of the source: where patterns
// pick what is copied, the object may not be among it.
func (p *Preflight) ofObjects(found []Finding) []Finding {
	if !p.opts.Scope.Partial {
		return found
	}
	for i := range found {
		if found[i].Severity == Blocker {
			found[i].Severity = Warning
			found[i].Detail += "; it stops the copy if the patterns take it along"
		}
	}
	return found
}
