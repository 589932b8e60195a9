package obs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/retry"
)

func TestJSONLineHasFixedKeysAndMilliseconds(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := obs.NewLogger(obs.FormatJSON, "", &out)
	require.NoError(t, err)
	log.Debug().Msg("not at level info")
	log.Error().Err(errors.New("boom")).Int64(obs.KeyEpoch, 7).Msg("attempt aborted")

	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line), out.String())
	require.Equal(t, "boom", line[obs.KeyError])
	require.Equal(t, zerolog.ErrorFieldName, obs.KeyError)
	require.EqualValues(t, 7, line["epoch"])
	require.Equal(t, "attempt aborted", line["message"])
	_, err = time.Parse("2006-01-02T15:04:05.000Z07:00", line["time"].(string))
	require.NoError(t, err)
}

func TestTextAndAuto(t *testing.T) {
	t.Parallel()
	var text, auto bytes.Buffer
	log, err := obs.NewLogger(obs.FormatText, "debug", &text)
	require.NoError(t, err)
	log.Debug().Str(obs.KeyState, "arming").Msg("step entered")
	require.Contains(t, text.String(), "step entered state=arming")
	require.NotContains(t, text.String(), "\x1b", "no colours where there is no terminal")

	log, err = obs.NewLogger(obs.FormatAuto, "", &auto)
	require.NoError(t, err)
	log.Info().Msg("hello")
	require.True(t, json.Valid(auto.Bytes()), "auto writes JSON where there is no terminal")
}

func TestNewLoggerRefuses(t *testing.T) {
	t.Parallel()
	_, err := obs.NewLogger("xml", "", &bytes.Buffer{})
	require.ErrorContains(t, err, `"xml"`)
	_, err = obs.NewLogger("", "loud", &bytes.Buffer{})
	require.ErrorContains(t, err, `"loud"`)
}

func TestRetryingWarnsOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := obs.NewLogger(obs.FormatJSON, "", &out)
	require.NoError(t, err)
	again := obs.Retrying(log, "connect to source again")
	for n := range 3 {
		again(retry.Attempt{Number: n + 1, Err: errors.New("refused")})
	}
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")), out.String())
	require.Contains(t, out.String(), `"error":"refused"`)
}
