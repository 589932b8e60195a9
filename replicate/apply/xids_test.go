package apply

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A number that comes again after a wrap-around is not the one that the copy saw.
func TestTransactionNumbersOutliveAWrapAround(t *testing.T) {
	t.Parallel()
	const copied = 1_000_000_000
	x := xids{newest: copied}
	require.EqualValues(t, copied-5, x.widen(copied-5))
	for full := uint64(copied); full < 3<<32; full += 1 << 29 {
		require.Equal(t, full, x.widen(uint32(full)))
		require.Equal(t, full-1000, x.widen(uint32(full-1000)), "one that committed late")
	}
}
