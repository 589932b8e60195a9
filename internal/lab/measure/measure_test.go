package measure

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMedian(t *testing.T) {
	t.Parallel()
	same := func(n int) int { return n }
	require.Equal(t, 0, Median(nil, same))
	require.Equal(t, 3, Median([]int{9, 3, 1}, same))
	require.Equal(t, 4, Median([]int{9, 3, 5, 1}, same))
}
