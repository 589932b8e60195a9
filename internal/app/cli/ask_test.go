package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/options"
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
	require.ErrorIs(t, err, errInterrupted)
	require.NoError(t, end.Close())
}

func TestNothingIsDroppedUnasked(t *testing.T) {
	t.Parallel()
	r := options.Removal{Target: "bob@h:5432/shop", Objects: []options.Existing{{Kind: "TABLE", Name: "shop.orders", Size: 3 << 30}, {Kind: "TYPE", Name: "shop.mood"}}}
	var out strings.Builder
	e := &env{stdin: strings.NewReader("y\n"), stderr: &out}
	err := allowRemoval(t.Context(), e, r, false)
	require.ErrorContains(t, err, "--yes", "a pipe is nobody who sits there")
	require.ErrorContains(t, err, "2 objects of bob@h:5432/shop")
	require.Contains(t, out.String(), "TABLE shop.orders (3.0 GiB)")
	require.Contains(t, out.String(), "TYPE shop.mood\n")
	require.NoError(t, allowRemoval(t.Context(), e, r, true))
}

func TestWhatHasNoEffectIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pgpass")
	require.NoError(t, os.WriteFile(file, []byte("*:*:*:*:s3cret"), 0o600))
	require.NoError(t, os.Chmod(file, 0o644))
	t.Setenv("PGPASSFILE", file)
	var out strings.Builder
	var both databases
	for _, d := range []*dsnFlag{&both.Source, &both.Target} {
		require.NoError(t, d.UnmarshalText([]byte("postgresql://u@h/d")))
	}
	require.NoError(t, both.check(&env{stderr: &out}))
	require.Equal(t, 1, strings.Count(out.String(), "group or world access"))
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	require.NotContains(t, out.String(), "s3cret")
	require.NoError(t, both.Target.UnmarshalText([]byte("postgresql://u:s3cret@h/d?ssl_mode=require")))
	err := both.check(&env{stderr: io.Discard})
	require.ErrorContains(t, err, "--target: ")
	require.ErrorContains(t, err, "did you mean sslmode?")
	require.NotContains(t, err.Error(), "s3cret")
}
