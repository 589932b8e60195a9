package privilege

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestSettingsOfRolesThatDiffer(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, RoleSettings, preflighttest.CopyMode))
	role, database := pg.QuoteIdent(f.SourceDSN.User()), pg.QuoteIdent(f.SourceDSN.Database())
	pgtest.Exec(t, f.SourceAdmin, "ALTER ROLE "+role+" SET work_mem = '9MB'; ALTER ROLE "+role+" IN DATABASE "+database+" SET app.tenant = 'geheim'")
	pgtest.Exec(t, f.SourceAdmin, "ALTER DATABASE "+database+" SET work_mem = '1MB'; ALTER DATABASE "+database+" SET search_path = 'a=b', public")
	found := f.Ask(t, RoleSettings, preflighttest.CopyMode)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "role_setting_differs", "app.tenant"}}, preflighttest.Short(found), "the others are carried over")
	require.NotContains(t, found[0].String(), "geheim")
	part := func(o *inquiry.Options) { o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{} }
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "role_setting_differs", "app.tenant"}, {answer.Warning, "role_setting_differs", "search_path"}},
		preflighttest.Short(f.Ask(t, RoleSettings, part)), "with a part of it, the database's are not")
	target := pg.QuoteIdent(f.TargetDSN.User())
	pgtest.Exec(t, f.TargetAdmin, "ALTER ROLE "+target+" SET work_mem = '9MB'; ALTER ROLE "+target+" SET app.tenant = 'other'")
	pgtest.Exec(t, f.TargetAdmin, "ALTER DATABASE "+pg.QuoteIdent(f.TargetDSN.Database())+" SET search_path = 'a=b', public")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "role_setting_differs", "app.tenant"}}, preflighttest.Short(f.Ask(t, RoleSettings, preflighttest.CopyMode)), "the role's comes before the database's")
	pgtest.Exec(t, f.TargetAdmin, "ALTER ROLE "+target+" SET work_mem = '3MB'")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "role_setting_differs", "app.tenant"}, {answer.Warning, "role_setting_differs", "work_mem"}}, preflighttest.Short(f.Ask(t, RoleSettings, preflighttest.CopyMode)),
		"what the target's role has stays")
	pgtest.Exec(t, f.SourceAdmin, "ALTER ROLE "+role+" SET log_min_messages = 'debug1'")
	require.Len(t, f.Ask(t, RoleSettings, preflighttest.CopyMode), 3, "a superuser's setting is refused")
}
