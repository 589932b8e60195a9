package pg

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersionsAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"15.18 (Debian 15.18-0+deb12u1)": 150018, "9.6.24": 90006, "18beta2": 180000, "17": 170000, "devel": 0} {
		require.Equal(t, want, parseVersion(text), text)
	}
}
