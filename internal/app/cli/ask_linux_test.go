package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/options"
)

// Only a yes lets --clean drop what is in its way; another answer, and none, is told once with what
// was asked.
func TestWhatCleanMayNotDropIsToldOnce(t *testing.T) {
	t.Parallel()
	r := options.Removal{Target: "bob@h:5432/shop", Objects: []options.Existing{{Kind: "TYPE", Name: "shop.mood"}}}
	for answer, says := range map[string]string{
		"no\n":  "--clean may not drop 1 objects of bob@h:5432/shop; nothing was dropped",
		"\x04":  "ask whether --clean may drop 1 objects of bob@h:5432/shop: EOF; nothing was dropped",
		"yes\n": "",
	} {
		master, slave := pseudoTerminal(t)
		_, err := io.WriteString(master, answer)
		require.NoError(t, err)
		err = allowRemoval(t.Context(), &env{stdin: slave, stderr: slave}, r, false)
		if says == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, says)
		require.Equal(t, 1, strings.Count(err.Error(), "nothing was dropped"))
	}
}
