package oneshot

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A copy is not compared while it runs, and says how it is afterwards.
func TestACopyRefusesAComparison(t *testing.T) {
	t.Parallel()
	c := &copyControl{}
	_, err := c.Verify(t.Context())
	require.EqualError(t, err, "this is a one-shot copy, which nothing follows; when it has ended, compare with crossfade verify --source --target")
	require.ErrorContains(t, c.StopVerify(t.Context()), "no comparison is running that can be stopped")
	require.Nil(t, c.LastVerify())
}
