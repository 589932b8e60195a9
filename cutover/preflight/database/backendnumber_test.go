package database

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestWhatNamesBackendsByTheirNumbers(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, `CREATE TABLE public.products (pid int);
		CREATE VIEW public.plain AS SELECT pid FROM public.products;
		CREATE VIEW public.busy AS SELECT count(*) FROM pg_stat_activity`)
	require.Empty(t, f.Ask(t, BackendNumbers))
	pgtest.Exec(t, f.Source, `CREATE FUNCTION public.kill(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_terminate_backend($1)';
		CREATE VIEW public.who AS SELECT pid, usename FROM pg_stat_activity`)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "backend_numbers", "public.kill(integer)"}, {answer.Warning, "backend_numbers", "public.who"}}, preflighttest.Short(f.Ask(t, BackendNumbers)))
}
