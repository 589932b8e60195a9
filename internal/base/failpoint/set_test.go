package failpoint

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseCountsPassesPerName(t *testing.T) {
	t.Parallel()
	s, err := parse("copy.chunk=kill@3, follow.applied=error,a=kill,b=error@2")
	require.NoError(t, err)

	require.Equal(t, actionNone, s.pass("copy.chunk"))
	require.Equal(t, actionNone, s.pass("copy.chunk"))
	require.Equal(t, actionKill, s.pass("copy.chunk"))

	require.Equal(t, actionError, s.pass("follow.applied"))
	require.Equal(t, actionError, s.pass("follow.applied"), "without a number every pass fails")

	require.Equal(t, actionKill, s.pass("a"))
	require.Equal(t, actionNone, s.pass("b"))
	require.Equal(t, actionError, s.pass("b"))
	require.Equal(t, actionNone, s.pass("b"))
	require.Equal(t, actionNone, s.pass("nobody armed this"))
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"name", "=kill", "name=", "name=explode", "name=kill@", "name=kill@0", "name=error@x", "a=kill,b"} {
		_, err := parse(value)
		require.Error(t, err, value)
	}
	s, err := parse("")
	require.NoError(t, err)
	require.Empty(t, s.points)
}
