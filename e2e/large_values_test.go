package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// Values of 200 MB, which a server cannot even send twice the size of, in the
// format of either kind of table.
func TestCopyOfHugeValues(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it moves 800 MB")
	}
	s := newSides(t)
	source := pgtest.Conn(t, s.source)
	for _, sql := range []string{
		`CREATE TABLE public.huge (id integer PRIMARY KEY, b bytea, t text)`,
		`CREATE TABLE public.huge_text (id integer PRIMARY KEY, b bytea, t text, c regclass)`, // travels as text
		`ALTER TABLE public.huge ALTER b SET STORAGE EXTERNAL, ALTER t SET STORAGE EXTERNAL`,
		`INSERT INTO public.huge SELECT 1, decode(repeat('00ff', 100 * 1024 * 1024), 'hex'), NULL`,
		`INSERT INTO public.huge SELECT 2, NULL, repeat(E'x\ty\\z\n', 200 * 1024 * 1024 / 6)`,
		`INSERT INTO public.huge_text SELECT id, b, t, 'pg_class' FROM public.huge`,
	} {
		pgtest.Exec(t, source, sql)
	}
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
	target := pgtest.Conn(t, s.target)
	for _, table := range []string{"huge", "huge_text"} {
		sum := `SELECT string_agg(concat_ws(' ', id, length(b), md5(b), length(t), md5(t)), ' ' ORDER BY id) FROM public.` + table
		want := pgtest.Value(t, source, sum)
		require.Contains(t, want, "209715200")
		require.Equal(t, want, pgtest.Value(t, target, sum), table)
	}
}
