package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestSettingsOfRolesThatDiffer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "role settings", copyMode))
	role, database := pg.QuoteIdent(f.sourceDSN.User()), pg.QuoteIdent(f.sourceDSN.Database())
	pgtest.Exec(t, f.sourceAdmin, "ALTER ROLE "+role+" SET work_mem = '9MB'; ALTER ROLE "+role+" IN DATABASE "+database+" SET app.tenant = 'geheim'")
	pgtest.Exec(t, f.sourceAdmin, "ALTER DATABASE "+database+" SET work_mem = '1MB'; ALTER DATABASE "+database+" SET search_path = 'a=b', public")
	found := f.ask(t, "role settings", copyMode)
	require.Equal(t, []seen{{answer.Warning, "role_setting_differs", "app.tenant"}}, short(found), "the others are carried over")
	require.NotContains(t, found[0].String(), "geheim")
	part := func(o *inquiry.Options) { o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{} }
	require.Equal(t, []seen{{answer.Warning, "role_setting_differs", "app.tenant"}, {answer.Warning, "role_setting_differs", "search_path"}},
		short(f.ask(t, "role settings", part)), "with a part of it, the database's are not")
	target := pg.QuoteIdent(f.targetDSN.User())
	pgtest.Exec(t, f.targetAdmin, "ALTER ROLE "+target+" SET work_mem = '9MB'; ALTER ROLE "+target+" SET app.tenant = 'other'")
	pgtest.Exec(t, f.targetAdmin, "ALTER DATABASE "+pg.QuoteIdent(f.targetDSN.Database())+" SET search_path = 'a=b', public")
	require.Equal(t, []seen{{answer.Warning, "role_setting_differs", "app.tenant"}}, short(f.ask(t, "role settings", copyMode)), "the role's comes before the database's")
	pgtest.Exec(t, f.targetAdmin, "ALTER ROLE "+target+" SET work_mem = '3MB'")
	require.Equal(t, []seen{{answer.Warning, "role_setting_differs", "app.tenant"}, {answer.Warning, "role_setting_differs", "work_mem"}}, short(f.ask(t, "role settings", copyMode)),
		"what the target's role has stays")
	pgtest.Exec(t, f.sourceAdmin, "ALTER ROLE "+role+" SET log_min_messages = 'debug1'")
	require.Len(t, f.ask(t, "role settings", copyMode), 3, "a superuser's setting is refused")
}
