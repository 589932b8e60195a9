package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestContentsOfMaterialisedViewsAreNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, `CREATE TABLE public.t (id int); CREATE MATERIALIZED VIEW public.full AS SELECT * FROM public.t;
		CREATE MATERIALIZED VIEW public.empty AS SELECT * FROM public.t WITH NO DATA`)
	pgtest.Exec(t, f.sourceAdmin, `CREATE SCHEMA other; CREATE MATERIALIZED VIEW other.hidden AS SELECT 1 AS a`)
	require.Equal(t, []seen{{answer.Warning, "matview_not_compared", "other.hidden"}, {answer.Info, "matview", "public.full"}}, short(f.ask(t, "materialised views")))
	require.Equal(t, []seen{{answer.Info, "matview", "other.hidden"}, {answer.Info, "matview", "public.full"}}, short(f.ask(t, "materialised views", copyMode)))
	require.Empty(t, f.ask(t, "materialised views", copyMode, func(o *inquiry.Options) { o.Scope.SchemaOnly = true }))
}
