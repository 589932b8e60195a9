package daemon

import (
	"time"

	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

// CopyReport says what a one-shot copy did.
type CopyReport struct {
	Databases []DatabaseReport
}

// DatabaseReport says what became of one database.
type DatabaseReport struct {
	Source, Target string // names
	Tables         int    // whose rows were to be copied
	Rows, Bytes    int64  // copied by this start, as COPY counts them
	Notes          []string
	Refused        []string // what the target has refused, where all else was copied
	Skipped        string   // why it was not copied, "" where it was
	Took           time.Duration
	Err            error
}

func (r *DatabaseReport) fill(m *migration) {
	c := m.copied()
	for _, f := range m.refusals() {
		r.Refused = append(r.Refused, f.String())
	}
	r.Tables, r.Rows, r.Bytes = c.TablesTotal, c.RowsDone, c.BytesDone
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.findings {
		r.Notes = append(r.Notes, f.String())
	}
	if m.catalog != nil && m.rewrite != nil {
		r.Notes = append(r.Notes, leftOut(m.catalog, *m.rewrite)...)
	}
}

// leftOut names what of the source is not on the target, or is otherwise there,
// although nobody refused it.
func leftOut(db *catalog.Database, w plan.Rewrite) []string {
	const byHand = ": is not copied; make it on the target when you need it there"
	var out []string
	for _, name := range db.Publications {
		out = append(out, "PUBLICATION "+name+byHand)
	}
	for _, name := range db.Subscriptions {
		out = append(out, "SUBSCRIPTION "+name+byHand)
	}
	for _, name := range db.InvalidIndexes {
		out = append(out, "INDEX "+name.Display()+": is invalid on the source and not copied; REINDEX it there, or drop it")
	}
	for _, t := range db.Relations {
		if t.Persistence == catalog.Unlogged && !w.KeepUnlogged {
			out = append(out, "TABLE "+t.Name().Display()+": is unlogged on the source and logged on the target")
		}
		if t.Tablespace != "" {
			out = append(out, "TABLE "+t.Name().Display()+": is in tablespace "+t.Tablespace+" on the source and in the default one on the target")
		}
	}
	return out
}
