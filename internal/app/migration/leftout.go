package migration

import (
	"sync"

	"crossfade/internal/base/lists"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// Findings are what was left out, and what the target has refused.
type Findings struct {
	task *Task

	mu       *sync.Mutex
	findings []finding.Finding            // by this start
	refused  map[string][]finding.Finding // by stage: what a copy that continued could not make
}

// Notes says what on the target differs from the source, although nothing was refused.
func (m *Migration) Notes() (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.Findings.findings {
		out = append(out, f.String())
	}
	if m.Schema.catalog != nil && m.Schema.rewrite != nil {
		out = append(out, leftOut(m.Schema.catalog, *m.Schema.rewrite)...)
	}
	return out
}

// leftOut names what of the source is missing on the target, or differs there, although nothing was
// refused.
func leftOut(db *catalog.Database, w plan.Rewrite) []string {
	const byHand = ": is not copied; make it on the target when you need it there"
	out := lists.Map(db.Publications, func(name string) string { return "PUBLICATION " + name + byHand })
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
		if t.Storage.Tablespace != "" {
			out = append(out, "TABLE "+t.Name().Display()+": is in tablespace "+t.Storage.Tablespace+" on the source and in the default one on the target")
		}
	}
	return out
}
