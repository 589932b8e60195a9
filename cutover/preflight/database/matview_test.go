package database

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestContentsOfMaterialisedViewsAreNamed(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, `CREATE TABLE public.t (id int); CREATE MATERIALIZED VIEW public.full AS SELECT * FROM public.t;
		CREATE MATERIALIZED VIEW public.empty AS SELECT * FROM public.t WITH NO DATA`)
	pgtest.Exec(t, f.SourceAdmin, `CREATE SCHEMA other; CREATE MATERIALIZED VIEW other.hidden AS SELECT 1 AS a`)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "matview_not_compared", "other.hidden"}, {answer.Info, "matview", "public.full"}}, preflighttest.Short(f.Ask(t, MaterialisedViews)))
	require.Equal(t, []preflighttest.Seen{{answer.Info, "matview", "other.hidden"}, {answer.Info, "matview", "public.full"}}, preflighttest.Short(f.Ask(t, MaterialisedViews, preflighttest.CopyMode)))
	require.Empty(t, f.Ask(t, MaterialisedViews, preflighttest.CopyMode, func(o *inquiry.Options) { o.Scope.SchemaOnly = true }))
}
