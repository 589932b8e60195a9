package state

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

// TestSettingsOfOtherVersions has a session of a source of another version carry
// settings that this server does not know.
func TestSettingsOfOtherVersions(t *testing.T) {
	t.Parallel()
	source, target := databases(t)
	roles := mapRole(source, target)
	captured := connect(t, source, nil, "SET work_mem = '9MB'").capture(t)
	with := func(name string, v Setting) *State {
		want := *captured
		want.Settings = maps.Clone(captured.Settings)
		want.Settings[name] = v
		return &want
	}
	mirror := func(want *State, params []wire.Param) error {
		w := connect(t, target, params)
		look := want.CaptureSpec(target.User(), nil)
		have, err := w.Capture(within(t), look)
		require.NoError(t, err)
		if err := w.Replay(within(t), Diff(want, have, Everything, roles)); err != nil {
			return err
		}
		have, err = w.Capture(within(t), look)
		require.NoError(t, err)
		require.Empty(t, Compare(want, have, Everything, roles))
		require.True(t, Diff(want, have, Everything, roles).Empty())
		return nil
	}
	gone := Setting{Value: "on", Reset: "on", Source: "session", Context: "user"}
	require.NoError(t, mirror(with("operator_precedence_warning", gone), nil), "no result depends on it")
	moved := NewStartup([]wire.Param{{Name: "options", Value: "-c operator_precedence_warning=on -c work_mem=5MB"}}).Moved(nil, with("operator_precedence_warning", gone), nil)
	require.Contains(t, moved[0].Value, "-c work_mem=4096 ", "what RESET gives is of the capture")
	require.NotContains(t, moved[0].Value, "operator_precedence")
	require.NoError(t, mirror(with("operator_precedence_warning", gone), moved), "the server takes it at start-up")

	err := mirror(with("no_such_setting", gone), nil)
	var step *StepError
	require.ErrorAs(t, err, &step)
	require.Equal(t, "setting no_such_setting", step.Step)

	// Known here, it moves as any other.
	escape := with("escape_string_warning", Setting{Value: "off", Reset: "off", Source: "session", Context: "user"})
	require.NoError(t, mirror(escape, nil))
	w := connect(t, target, nil)
	have, err := w.Capture(within(t), escape.CaptureSpec(target.User(), nil))
	require.NoError(t, err)
	require.NotEmpty(t, Compare(escape, have, Everything, roles))
}
