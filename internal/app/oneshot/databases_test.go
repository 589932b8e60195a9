package oneshot

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/options"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/copy/relay"
)

// Names of databases that cannot be on the target are refused once, before anything is made, and
// taken where they are given another name with the option that is printed.
func TestNamesOfDatabasesAreTakenAsTheRefusalWritesThem(t *testing.T) {
	t.Parallel()
	databases := []sourceDatabase{{Name: "shop", MayConnect: true}, {Name: "old", MayConnect: true}, {Name: neonDatabase, MayConnect: true}}
	for says, x := range map[string]struct {
		renames map[string]string
		neon    bool
		pattern string
		right   func(renames map[string]string, said string)
	}{
		"--rename-database nosuch: the source has no such database": {map[string]string{"nosuch": "x"}, false, `it has (\w+),`, func(r map[string]string, v string) { delete(r, "nosuch"); r[v] = "x" }},
		"databases shop and old would both be shop on the target":   {map[string]string{"old": "shop"}, false, `(--rename-database)$`, func(r map[string]string, _ string) { r["old"] = "older" }},
		"database " + neonDatabase + " is Neon's own on the target": {map[string]string{}, true, `--rename-database (\w+)=NAME$`, func(r map[string]string, v string) { r[v] = "x" }},
	} {
		err := checkNames(databases, options.Copy{AllDatabases: true, RenameDatabase: x.renames}, x.neon)
		require.ErrorContains(t, err, says)
		require.Equal(t, exit.CodeUsage, exit.Code(err))
		v := regexp.MustCompile(x.pattern).FindStringSubmatch(err.Error())
		require.NotNil(t, v, err.Error())
		x.right(x.renames, v[1])
		require.NoError(t, checkNames(databases, options.Copy{AllDatabases: true, RenameDatabase: x.renames}, x.neon))
	}
}

// A database that the target's role may not make is made as it is printed, and so is one where the
// role may by then.
func TestADatabaseThatMayNotBeMadeIsMadeAsTheRefusalWritesIt(t *testing.T) {
	t.Parallel()
	target := pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	conn, admin := pgtest.Conn(t, target), pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	for i, print := range []string{`as a role that may: (CREATE DATABASE [^;]+);`, `let the role: (ALTER ROLE .*)$`} {
		d := sourceDatabase{Name: fmt.Sprintf("Made %d of %s", i, target.Database()), Encoding: "UTF8", Collate: "C", Type: "C", MayConnect: true}
		t.Cleanup(func() {
			pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres")), "DROP DATABASE IF EXISTS "+pg.QuoteIdent(d.Name))
		})
		_, _, err := makeDatabase(t.Context(), conn, d, d.Name)
		require.ErrorContains(t, err, "make database "+d.Name+" on the target: ")
		require.Equal(t, 1, strings.Count(err.Error(), "permission denied"))
		v := regexp.MustCompile(print).FindStringSubmatch(err.Error())
		require.NotNil(t, v, err.Error())
		pgtest.Exec(t, admin, v[1])
		made, _, err := makeDatabase(t.Context(), conn, d, d.Name)
		require.NoError(t, err)
		require.Equal(t, i == 1, made)
		require.Equal(t, target.User()+" C", pgtest.Value(t, admin, "SELECT datdba::regrole || ' ' || datcollate FROM pg_database WHERE datname = "+pg.QuoteLiteral(d.Name)))
	}
}

// connects opens a session of its own to a database once that is copied.
type connects func()

func (f connects) Write(p []byte) (int, error) {
	if strings.Contains(string(p), `"message":"database is copied"`) {
		f()
	}
	return len(p), nil
}

// A database that was made for a copy that is refused stays if someone uses it, which is reported
// with the refusal.
func TestADatabaseThatCannotBeDroppedAgainIsTold(t *testing.T) {
	t.Parallel()
	own := pgtest.Own(t, pgtest.Target)
	source := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	pgtest.Exec(t, pgtest.Conn(t, source), "CREATE TABLE public.t (id int PRIMARY KEY)") // which the target lacks
	made := source.Database()
	admin := pgtest.Conn(t, own.AdminDSN("postgres"))
	one := copyOneOfAll(t.Context(), admin, sourceDatabase{Name: made}, source, own.AdminDSN("postgres"), options.Copy{Jobs: 1, DataOnly: true}, &copyControl{limit: relay.NewLimiter(0)},
		zerolog.New(connects(func() { pgtest.Exec(t, pgtest.Conn(t, own.AdminDSN(made)), "SELECT 1") })), func(control.Copy) {})
	apptest.ToldAlone(t, one.Err, "its empty database stays: ")
	require.ErrorContains(t, one.Err, "is being accessed by other users")
	require.Equal(t, "1", pgtest.Value(t, admin, "SELECT count(*) FROM pg_database WHERE datname = $1", made))
}
