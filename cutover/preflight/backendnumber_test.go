package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestWhatNamesBackendsByTheirNumbers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, `CREATE TABLE public.products (pid int);
		CREATE VIEW public.plain AS SELECT pid FROM public.products;
		CREATE VIEW public.busy AS SELECT count(*) FROM pg_stat_activity`)
	require.Empty(t, f.ask(t, "numbers of backends"))
	pgtest.Exec(t, f.source, `CREATE FUNCTION public.kill(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_terminate_backend($1)';
		CREATE VIEW public.who AS SELECT pid, usename FROM pg_stat_activity`)
	require.Equal(t, []seen{{answer.Warning, "backend_numbers", "public.kill(integer)"}, {answer.Warning, "backend_numbers", "public.who"}}, short(f.ask(t, "numbers of backends")))
}
