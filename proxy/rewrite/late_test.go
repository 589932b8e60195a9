package rewrite

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAnswersToTheProxysOwnParseAreHidden: however the reads of the server cut them.
func TestAnswersToTheProxysOwnParseAreHidden(t *testing.T) {
	t.Parallel()
	answer := append(frame('1'), frame('Z', []byte{'I'})...)
	answer = append(answer, frame('C', "SELECT 1")...)
	answer = append(answer, frame('Z', []byte{'I'})...)
	want := append(frame('C', "SELECT 1"), frame('Z', []byte{'I'})...)
	for cut := range answer {
		p := newPath()
		require.NoError(t, p.pass(false, frame('Q', "EXECUTE late1(1)")))
		require.Contains(t, string(p.toServer), "late1")
		require.NoError(t, p.pass(true, answer[:cut], answer[cut:]))
		require.Equal(t, want, p.toClient, "cut at %d", cut)
		require.True(t, p.tracker.Boundary())
	}
}
