package schema

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoleChangesAreToldWhereTheTargetHasTheRole(t *testing.T) {
	t.Parallel()
	role := func(name string, limit int, powers ...string) Role {
		return Role{Name: name, Inherit: true, ConnLimit: limit, Powers: powers, Here: name == "app" || name == "own" || name == "away"}
	}
	kept := Roles{Roles: []Role{role("app", -1), role("other", -1, "CREATEDB"), role("away", -1), role("own", -1)},
		Memberships: []Membership{{Role: "other", Member: "app"}}, Settings: []RoleSetting{{"app", "work_mem", "4MB"}, {"app", "datestyle", "ISO"}}}.WithoutValues()
	now := Roles{Roles: []Role{role("app", 5, "BYPASSRLS"), role("other", -1), role("away", 7), role("own", 9, "SUPERUSER")},
		Memberships: []Membership{{Role: "own", Member: "app", Admin: true}}, Settings: []RoleSetting{{"app", "work_mem", "s3cret"}}}.WithoutValues()
	target := Roles{Roles: []Role{role("app", -1), role("other", -1, "CREATEDB"), role("neon", -1)},
		Memberships: kept.Memberships, Settings: kept.Settings}
	mapped := map[string]string{"own": "neon"}
	var said []string
	for _, c := range RoleChanges(kept, now, target, mapped) {
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
	target.Roles = []Role{role("app", 5, "BYPASSRLS"), role("other", -1), role("neon", -1)}
	target.Memberships, target.Settings = []Membership{{Role: "neon", Member: "app", Admin: true}}, now.Settings
	require.Empty(t, RoleChanges(kept, now, target, mapped))
}

func TestOnlyRolesThatSomebodyHereCanBecomeCount(t *testing.T) {
	t.Parallel()
	roles := func(limit int, memberships ...Membership) Roles {
		var out Roles
		for _, name := range []string{"app", "team", "all", "elsewhere", "theirs"} {
			out.Roles = append(out.Roles, Role{Name: name, ConnLimit: limit, Here: name == "app"})
		}
		out.Memberships = memberships
		return out
	}
	ours := []Membership{{Role: "team", Member: "app"}, {Role: "all", Member: "team"}}
	theirs := Membership{Role: "theirs", Member: "elsewhere"}
	before := roles(-1, append(ours, theirs)...)
	var said []string
	for _, c := range RoleChanges(before, roles(5), before, nil) {
		said = append(said, c.Name+" "+c.Property)
	}
	require.Equal(t, []string{"app CONNECTION LIMIT", "team CONNECTION LIMIT", "all CONNECTION LIMIT", "app membership in team", "team membership in all"}, said)
}
