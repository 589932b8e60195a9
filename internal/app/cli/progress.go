package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/app/control"
)

// barWidth is the length of a progress bar, in characters.
const barWidth = 30

// linesEvery is how often progress is written where there is no terminal.
const linesEvery = 5 * time.Second

// progress shows how far a copy is: a bar that is redrawn on a terminal, lines of the log
// elsewhere. It may be used from several goroutines.
type progress struct {
	w     io.Writer
	lines *zerolog.Logger // nil on a terminal

	mu   sync.Mutex
	last time.Time
	done bool
	open bool // the last line of the terminal shows a bar
}

func newProgress(e *env) *progress { return &progress{w: e.stderr, lines: e.lines} }

// copying takes the newest figures.
func (p *progress) copying(c control.Copy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	complete := c.TablesTotal > 0 && c.TablesDone == c.TablesTotal
	if p.done || p.lines != nil && !complete && time.Since(p.last) < linesEvery {
		return
	}
	p.last, p.done = time.Now(), complete
	share := 0.0
	if c.BytesTotal > 0 {
		share = min(1, float64(c.BytesDone)/float64(c.BytesTotal))
	}
	if complete {
		share = 1
	}
	if p.lines != nil {
		p.lines.Info().Int("percent", int(share*100)).Int("tables_done", c.TablesDone).Int("tables_total", c.TablesTotal).
			Int64("bytes_done", c.BytesDone).Int64("bytes_total", max(c.BytesTotal, c.BytesDone)).Int64("rows_done", c.RowsDone).Msg("copying")
		return
	}
	text := fmt.Sprintf("copy %3.0f %%  %d/%d tables  %s of %s  %d rows", share*100, c.TablesDone, c.TablesTotal,
		bytesText(c.BytesDone), bytesText(max(c.BytesTotal, c.BytesDone)), c.RowsDone)
	full := int(share * barWidth)
	fmt.Fprintf(p.w, "\r\x1b[K[%s%s] %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), text)
	p.open = true
	if complete {
		fmt.Fprintln(p.w)
		p.open = false
	}
}

func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		fmt.Fprintln(p.w)
		p.open = false
	}
	p.done = true
}
