package roles_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/pairtest"
	"crossfade/schema/roles"
)

// A role is here where it may log in to the database, or where something of the database names it.
func TestRolesAreHereWhereTheyMayLogInOrAreNamed(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	cluster := pgtest.Shared(t, pgtest.Source)
	prefix := "h" + strings.ToLower(rand.Text()[:8]) + "_"
	kinds := []string{"in", "out", "owner", "granted", "policy", "dbacl", "nobody"}
	admin, here := pgtest.Conn(t, cluster.AdminDSN("postgres")), pgtest.Conn(t, cluster.AdminDSN(p.Source.Database()))
	for _, kind := range kinds {
		login := map[bool]string{true: "LOGIN", false: "NOLOGIN"}[kind == "in" || kind == "out"]
		pgtest.Exec(t, admin, "CREATE ROLE "+prefix+kind+" "+login)
	}
	t.Cleanup(func() {
		for _, kind := range kinds {
			pgtest.Exec(t, pgtest.Conn(t, cluster.AdminDSN(p.Source.Database())), "DROP OWNED BY "+prefix+kind+" CASCADE; DROP ROLE "+prefix+kind)
		}
	})
	db := `"` + p.Source.Database() + `"`
	pgtest.Exec(t, here, "REVOKE CONNECT ON DATABASE "+db+" FROM PUBLIC; GRANT CONNECT ON DATABASE "+db+" TO "+prefix+"in; GRANT TEMPORARY ON DATABASE "+db+" TO "+prefix+"dbacl;"+
		"CREATE TABLE named (id int); ALTER TABLE named OWNER TO "+prefix+"owner; GRANT SELECT ON named TO "+prefix+"granted; CREATE POLICY p ON named TO "+prefix+"policy USING (true)")
	roles, err := roles.Read(t.Context(), here)
	require.NoError(t, err)
	var found []string
	for _, r := range roles.Roles {
		if kind, ours := strings.CutPrefix(r.Name, prefix); ours && r.Here {
			found = append(found, kind)
		}
	}
	require.ElementsMatch(t, []string{"in", "owner", "granted", "policy", "dbacl"}, found)
}
