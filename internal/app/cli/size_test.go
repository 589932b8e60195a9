package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"none": 0, "0": 0, "512": 512, "512B": 512, "1k": 1024, "1K": 1024, "20M": 20 << 20, "1.5G": 3 << 29,
		"2T": 2 << 40, "64kB": 64 << 10, "1GiB": 1 << 30} {
		var s sizeFlag
		require.NoError(t, s.UnmarshalText([]byte(text)), text)
		require.EqualValues(t, want, s, text)
	}
	for _, text := range []string{"", "M", "-1", "1X", "1MM", "1e3", "0x10", "NaN", "Inf", "99999999T", "auto", "1 M"} {
		var s sizeFlag
		require.ErrorContains(t, s.UnmarshalText([]byte(text)), "is no size", text)
	}
	var b budgetFlag
	require.NoError(t, b.UnmarshalText([]byte("auto")))
	require.EqualValues(t, -1, b)
	require.NoError(t, b.UnmarshalText([]byte("50G")))
	require.EqualValues(t, 50<<30, b)
}
