package roles_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/roles"
)

func TestRoleChangesAreToldWhereTheTargetHasTheRole(t *testing.T) {
	t.Parallel()
	role := func(name string, limit int, powers ...string) roles.Role {
		return roles.Role{Name: name, Inherit: true, ConnLimit: limit, Powers: powers, Here: name == "app" || name == "own" || name == "away"}
	}
	kept := roles.Roles{Roles: []roles.Role{role("app", -1), role("other", -1, "CREATEDB"), role("away", -1), role("own", -1)},
		Memberships: []roles.Membership{{Role: "other", Member: "app"}}, Settings: []roles.Setting{{"app", "work_mem", "4MB"}, {"app", "datestyle", "ISO"}}}.WithoutValues()
	now := roles.Roles{Roles: []roles.Role{role("app", 5, "BYPASSRLS"), role("other", -1), role("away", 7), role("own", 9, "SUPERUSER")},
		Memberships: []roles.Membership{{Role: "own", Member: "app", Admin: true}}, Settings: []roles.Setting{{"app", "work_mem", "s3cret"}}}.WithoutValues()
	target := roles.Roles{Roles: []roles.Role{role("app", -1), role("other", -1, "CREATEDB"), role("neon", -1)},
		Memberships: kept.Memberships, Settings: kept.Settings}
	mapped := map[string]string{"own": "neon"}
	var said []string
	for _, c := range roles.Changes(kept, now, target, mapped) {
		said = append(said, c.String()+" | "+c.SQL)
		require.NotContains(t, c.String(), "s3cret")
	}
	require.Equal(t, []string{
		`ROLE app: attribute is now on the source: BYPASSRLS; on the target: NOBYPASSRLS | ALTER ROLE "app" BYPASSRLS;`,
		`ROLE app: CONNECTION LIMIT is now on the source: 5; on the target: -1 | ALTER ROLE "app" CONNECTION LIMIT 5;`,
		`ROLE app: setting work_mem is now on the source: another value; on the target: not that value | `,
		`ROLE app: setting datestyle is gone on the source since the copy, and on the target: set | ALTER ROLE "app" RESET "datestyle";`,
		`ROLE other: attribute is now on the source: NOCREATEDB; on the target: CREATEDB | ALTER ROLE "other" NOCREATEDB;`,
		`ROLE app: membership in own is new on the source since the copy: member with ADMIN OPTION | GRANT "neon" TO "app" WITH ADMIN OPTION;`,
		`ROLE app: membership in other is gone on the source since the copy, and on the target: member | REVOKE "other" FROM "app";`,
	}, said)
	target.Roles = []roles.Role{role("app", 5, "BYPASSRLS"), role("other", -1), role("neon", -1)}
	target.Memberships, target.Settings = []roles.Membership{{Role: "neon", Member: "app", Admin: true}}, now.Settings
	require.Empty(t, roles.Changes(kept, now, target, mapped))
}

func TestOnlyRolesThatSomebodyHereCanBecomeCount(t *testing.T) {
	t.Parallel()
	known := func(limit int, memberships ...roles.Membership) roles.Roles {
		var out roles.Roles
		for _, name := range []string{"app", "team", "all", "elsewhere", "theirs"} {
			out.Roles = append(out.Roles, roles.Role{Name: name, ConnLimit: limit, Here: name == "app"})
		}
		out.Memberships = memberships
		return out
	}
	ours := []roles.Membership{{Role: "team", Member: "app"}, {Role: "all", Member: "team"}}
	theirs := roles.Membership{Role: "theirs", Member: "elsewhere"}
	before := known(-1, append(ours, theirs)...)
	var said []string
	for _, c := range roles.Changes(before, known(5), before, nil) {
		said = append(said, c.Name+" "+c.Property)
	}
	require.Equal(t, []string{"app CONNECTION LIMIT", "team CONNECTION LIMIT", "all CONNECTION LIMIT", "app membership in team", "team membership in all"}, said)
}
