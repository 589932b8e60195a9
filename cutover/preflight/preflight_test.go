package preflight

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestAnOrdinaryPairIsReady(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.Source, preflighttest.Ordinary)
	for _, mode := range []inquiry.Mode{inquiry.Run, inquiry.Copy} {
		r := f.preflight(t, func(o *inquiry.Options) { o.Mode = mode; o.LongTransaction = time.Hour }).Run(t.Context())
		require.Empty(t, r.Incomplete)
		require.Empty(t, r.Of(answer.Blocker))
		require.Empty(t, r.Of(answer.Warning))
		require.True(t, r.Ready(), mode)
	}
}

func TestCopyAsksLess(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	asked := map[string]bool{}
	for _, c := range f.preflight(t, preflighttest.CopyMode).Checks() {
		asked[c.Name] = true
	}
	for _, name := range []string{"wal_level", "replication", "replica identity"} {
		require.False(t, asked[name], name)
	}
	require.True(t, asked["extensions"])
}

func TestABrokenConnectionIsNeverAPass(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.preflight(t)
	require.NoError(t, p.pair.Source.Close(context.Background()))
	r := p.Run(t.Context())
	require.False(t, r.Ready())
	require.Equal(t, answer.ExitIncomplete, r.ExitCode())
	require.Greater(t, len(r.Incomplete), 10, "every check that needs the source is without an answer")
	require.Empty(t, r.Of(answer.Blocker))
}

func TestACheckIsBounded(t *testing.T) {
	t.Parallel()
	r := Ask(t.Context(), nil, []Check{{Name: "bounded", Run: func(ctx context.Context, _ *inquiry.Pair) ([]answer.Finding, error) {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > CheckTimeout {
			return nil, errors.New("no bound")
		}
		return nil, nil
	}}})
	require.True(t, r.Ready())
}

func TestOptionsAreValidated(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*inquiry.Options){
		"mode":                      func(o *inquiry.Options) { o.Mode = "walk" },
		"no way to ask pg_dump":     func(o *inquiry.Options) { o.PgDumpMajor = nil },
		"no way to open a replicat": func(o *inquiry.Options) { o.OpenReplication = nil },
		"no way to open a session":  func(o *inquiry.Options) { o.OpenSource = nil },
	} {
		o := inquiry.Options{Mode: inquiry.Run, OpenReplication: func(context.Context) error { return nil }, OpenSource: func(context.Context) (*pgx.Conn, error) { return nil, nil }, PgDumpMajor: func(context.Context) (int, error) { return 15, nil }}
		require.NoError(t, o.Validate())
		spoil(&o)
		_, err := New(nil, nil, o)
		require.ErrorContains(t, err, name)
	}
}
