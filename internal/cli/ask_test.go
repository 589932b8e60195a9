package cli

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/daemon"
)

func TestOnlyYesIsAYes(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " yes": true, "\n": false, "n\n": false, "yeah\n": false, "yes please\n": false} {
		var out strings.Builder
		got, err := ask(t.Context(), strings.NewReader(answer), &out, "Drop it? ")
		require.NoError(t, err, answer)
		require.Equal(t, want, got, answer)
		require.Equal(t, "Drop it? ", out.String())
	}
	_, err := ask(t.Context(), strings.NewReader(""), io.Discard, "?")
	require.ErrorIs(t, err, io.EOF, "nobody answers")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, end := io.Pipe()
	_, err = ask(ctx, in, io.Discard, "?")
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, end.Close())
}

func TestNothingIsDroppedUnasked(t *testing.T) {
	t.Parallel()
	r := daemon.Removal{Target: "bob@h:5432/shop", Objects: []daemon.Existing{{Kind: "TABLE", Name: "shop.orders", Size: 3 << 30}, {Kind: "TYPE", Name: "shop.mood"}}}
	var out strings.Builder
	e := &env{stdin: strings.NewReader("y\n"), stderr: &out}
	err := allowRemoval(t.Context(), e, r, false)
	require.ErrorContains(t, err, "--yes", "a pipe is nobody who sits there")
	require.ErrorContains(t, err, "2 objects of bob@h:5432/shop")
	require.Contains(t, out.String(), "TABLE shop.orders (3.0 GiB)")
	require.Contains(t, out.String(), "TYPE shop.mood\n")
	require.NoError(t, allowRemoval(t.Context(), e, r, true))
}
