package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/options"
)

// Everything that a command says to a pipe has one form: the log's.
func TestAPipedCommandWritesLinesOfOneForm(t *testing.T) {
	t.Parallel()
	say := func(t *testing.T, format, level string) []string {
		var out bytes.Buffer
		e := &env{stdin: strings.NewReader(""), stderr: &out, format: format, level: level}
		log, err := e.logger()
		require.NoError(t, err)
		e.warn("PGHOST has no effect")
		p := newProgress(e)
		p.copying(control.Copy{TablesTotal: 2, BytesTotal: 1 << 20})
		log.Info().Msg("phase reached")
		p.copying(control.Copy{TablesTotal: 2, TablesDone: 2, BytesTotal: 1 << 20, BytesDone: 1 << 20, RowsDone: 7})
		p.close()
		require.Error(t, allowRemoval(t.Context(), e, options.Removal{Target: "t", Objects: []options.Existing{{Kind: "TABLE", Name: "shop.orders"}}}, false))
		require.Equal(t, exit.CodeNotComplete, e.report(exit.NotComplete(errors.New("source: gone\nand \"more\""))))
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
	lines := say(t, "auto", "info")
	require.Len(t, lines, 6)
	for _, l := range lines {
		var v map[string]any
		require.NoError(t, json.Unmarshal([]byte(l), &v), l)
		for _, key := range []string{"level", "time", "message"} {
			require.NotEmpty(t, v[key], l)
		}
	}
	require.Contains(t, lines[3], `"rows_done":7`)
	require.Contains(t, lines[5], `source: gone; and \"more\"`)
	for _, l := range say(t, "console", "info") {
		require.Regexp(t, `^\d\d:\d\d:\d\d\.\d{3} (INF|WRN|ERR) `, l)
	}
	quiet := say(t, "json", "error")
	require.Len(t, quiet, 2, "what is to be dropped is always shown, and why it ended")
	require.Contains(t, quiet[0], "shop.orders")
}
