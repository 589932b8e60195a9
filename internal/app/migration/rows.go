package migration

import (
	"context"
	"sync"
	"time"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/retry"
	"crossfade/replicate/copy"
	"crossfade/replicate/copy/relay"
)

// Rows is the copy of the tables' rows, and what is built on them.
type Rows struct {
	task       *Task
	findings   *Findings
	schema     *Schema
	extras     *Extras
	chunkBytes int64
	onCopied   func(copy.Copied)
	Limit      *relay.Limiter
	waits      bool

	mu     *sync.Mutex
	copier *copy.Copier
	past   control.Copy // of earlier starts: restarts and repairs only
}

// Copying reports whether rows are being copied.
func (m *Rows) Copying() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.copier != nil && !m.task.Phase.AtLeast(journal.PhaseCopied)
}

// copyEvery is how often the figures of a copy are handed on.
const copyEvery = 200 * time.Millisecond

// Watch hands the copy's figures on until it is stopped.
func (m *Rows) Watch(ctx context.Context, onCopy func(control.Copy)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range retry.Every(ctx, copyEvery) {
			m.tell(onCopy)
		}
	}()
	return func() {
		cancel()
		<-done
		m.tell(onCopy)
	}
}

func (m *Rows) tell(onCopy func(control.Copy)) {
	if c := m.Copied(); onCopy != nil && c.TablesTotal > 0 {
		onCopy(c)
	}
}

// Copied returns how far the copy is.
func (m *Rows) Copied() control.Copy {
	m.mu.Lock()
	c := m.copier
	m.mu.Unlock()
	if c == nil {
		return control.Copy{}
	}
	p := c.Progress()
	return control.Copy{TablesDone: p.TablesDone, TablesTotal: p.TablesTotal, BytesDone: p.BytesDone, BytesTotal: p.BytesTotal, RowsDone: p.RowsDone,
		TablesRestarted: p.Restarts, TablesRepaired: p.Repaired, KeysRepaired: p.RepairedKeys}
}

// Whole are the figures of a copy that an earlier start has ended.
func (m *Rows) Whole() control.Copy {
	m.mu.Lock()
	defer m.mu.Unlock()
	var c control.Copy
	if m.schema.catalog == nil || !m.task.Phase.AtLeast(journal.PhaseCopied) {
		return c
	}
	for _, r := range m.schema.catalog.Relations {
		if r.Kind == 'r' {
			c.TablesTotal++
			c.BytesTotal += r.Bytes
		}
	}
	c.TablesDone, c.BytesDone = c.TablesTotal, c.BytesTotal
	c.TablesRestarted, c.TablesRepaired, c.KeysRepaired = m.past.TablesRestarted, m.past.TablesRepaired, m.past.KeysRepaired
	return c
}
