package obs_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/obs"
)

// keysOf returns the keys of a line in their order, twice where one stands there twice.
func keysOf(t *testing.T, line []byte) (keys []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(line))
	_, err := d.Token()
	require.NoError(t, err)
	for d.More() {
		key, err := d.Token()
		require.NoError(t, err)
		keys = append(keys, key.(string))
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
	}
	return keys
}

func TestALineNamesOneComponent(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	base, err := obs.NewLogger(obs.FormatJSON, "", &out)
	require.NoError(t, err)
	outer := obs.Component(base, "migration").With().Str(obs.KeyDatabase, `a "b"`).Int64(obs.KeyEpoch, 1<<60).Logger()
	inner := obs.Component(outer, "stream")
	inner.Debug().Msg("not at level info")
	inner.Info().Str(obs.KeyState, "open").Msg("said")
	require.Equal(t, []string{"level", obs.KeyDatabase, obs.KeyEpoch, obs.KeyComponent, obs.KeyState, "time", "message"}, keysOf(t, out.Bytes()), out.String())
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	require.Equal(t, "stream", line[obs.KeyComponent])
	require.Equal(t, `a "b"`, line[obs.KeyDatabase], "what else it said stays")
	require.Contains(t, out.String(), "1152921504606846976")

	out.Reset()
	outer.Info().Msg("said")
	require.Contains(t, out.String(), `"component":"migration"`, "the one that it was made from is as it was")
	out.Reset()
	quiet, err := obs.NewLogger(obs.FormatJSON, "disabled", &out)
	require.NoError(t, err)
	silent := obs.Component(quiet, "x")
	silent.Error().Msg("said")
	require.Empty(t, out.String())
}
