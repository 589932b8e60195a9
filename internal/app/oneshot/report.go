package oneshot

import (
	"time"

	"crossfade/internal/app/migration"
)

// CopyReport says what a one-shot copy did.
type Report struct {
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

func (r *DatabaseReport) fill(m *migration.Migration) {
	c := m.Rows.Copied()
	for _, f := range m.Findings.Refusals() {
		r.Refused = append(r.Refused, f.String())
	}
	r.Tables, r.Rows, r.Bytes = c.TablesTotal, c.RowsDone, c.BytesDone
	r.Notes = append(r.Notes, m.Notes()...)
}
