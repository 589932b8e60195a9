package sequence_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/lists"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/extras/sequence"
)

func TestSequencesThatAreBehindAreNamed(t *testing.T) {
	t.Parallel()
	from, to := sides(t, ddl+`CREATE SEQUENCE public.round MAXVALUE 5 CYCLE;`)
	pgtest.Exec(t, from, `SELECT nextval('public.used') FROM generate_series(1, 41); SELECT setval('public.set_uncalled', 42, false);
		SELECT nextval('public.down') FROM generate_series(1, 3); SELECT setval('public.big', 9223372036854775806); SELECT nextval('public.round')`)
	behind := func(missingOnly bool) []string {
		found, n, err := sequence.FindBehind(t.Context(), from, to, missingOnly)
		require.NoError(t, err)
		require.Equal(t, 11, n)
		return lists.Map(found, func(b sequence.Behind) string { return b.Name.Display() + ": " + b.String() })
	}
	require.Equal(t, []string{
		"public.big: the source is at 9223372036854775806 and the target at 1, which is behind",
		"public.down: the source is at 90 and the target at 100, which is behind",
		"public.set_uncalled: the source is at 42 and the target at 1, which is behind",
		"public.used: the source is at 41 and the target at 1, which is behind",
	}, behind(false))
	require.Empty(t, behind(true))

	states, err := sequence.Read(t.Context(), from)
	require.NoError(t, err)
	require.NoError(t, sequence.SetExactly(t.Context(), to, states))
	require.Empty(t, behind(false))
	pgtest.Exec(t, to, `SELECT nextval('public.used'), nextval('public.down')`)
	require.Empty(t, behind(false), "the target may be ahead")
	pgtest.Exec(t, from, `SELECT nextval('public.used') FROM generate_series(1, 2)`)
	require.Len(t, behind(false), 1)
	pgtest.Exec(t, to, `DROP SEQUENCE public.used`)
	require.Equal(t, []string{"public.used: the sequence does not exist at the target"}, behind(true))
}
