package demo

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/workload"
)

// lines keeps what is logged, by many at once.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// A run without a problem logs no warning: a reader would take it for one.
func TestTheDemoEndsWellAndWarnsOfNothing(t *testing.T) {
	t.Parallel()
	var warned []string
	for range 3 { // a machine that stands still has something to warn of, though not each time
		var log lines
		var out bytes.Buffer
		err := Run(t.Context(), Config{Clients: 6, Shop: workload.Shop{Accounts: 100}, Version: "test", Log: zerolog.New(&log), OnCopy: func(control.Copy) {}, Out: &out})
		require.NoError(t, err, "%s\n%s", out.String(), log.buf.String())
		require.Contains(t, out.String(), "nothing lost, nothing doubled, nothing different")
		require.Contains(t, log.buf.String(), `"level":"info"`)
		warned = slices.DeleteFunc(strings.Split(log.buf.String(), "\n"), func(l string) bool {
			return !strings.Contains(l, `"level":"warn"`) && !strings.Contains(l, `"level":"error"`)
		})
		if len(warned) == 0 {
			return
		}
	}
	require.Empty(t, warned)
}
