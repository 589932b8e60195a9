//go:build !failpoint

package failpoint

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The environment has no say in a build without the tag.
func TestNothingHappensWithoutTheTag(t *testing.T) {
	t.Setenv(Variable, "here=kill,err=error")
	Here("here")
	require.NoError(t, Err("err"))
	require.False(t, Enabled)
}
