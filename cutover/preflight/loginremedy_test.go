package preflight

import (
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// keepsName is what is printed for a role that is to have its own name on the target.
const keepsName = "leave it its own name, without --map-role and without a target role in the users file"

// What a remedy says of options, as someone copies it.
var (
	saidMapRole = regexp.MustCompile(`--map-role ([^\s=]+)=([^\s=;,]+)`)
	saidAccept  = regexp.MustCompile(`--accept-rights ([^\s;,]+)`)
)

// given takes the options that a remedy prints.
func given(t *testing.T, l *inquiry.Logins, remedy string, option *regexp.Regexp) {
	t.Helper()
	m := option.FindStringSubmatch(remedy)
	require.NotNil(t, m, "%s in: %s", option, remedy)
	if option == saidAccept {
		l.Accepted = append(l.Accepted, m[1])
		return
	}
	if l.Mapped == nil {
		l.Mapped = map[string]string{}
	}
	l.Mapped[m[1]] = m[2]
}

// statement cuts from a remedy what stands from the beginning of a statement to its end.
func statement(t *testing.T, remedy, begins string) string {
	t.Helper()
	at := strings.Index(remedy, begins)
	require.GreaterOrEqual(t, at, 0, "%s in: %s", begins, remedy)
	sql := remedy[at:]
	for _, end := range []string{"; ", " on the target", " on the source", " (", ", "} {
		if i := strings.Index(sql, end); i >= 0 && !strings.HasPrefix(begins, "SELECT") {
			sql = sql[:i]
		}
	}
	return sql
}

// anyRole returns the options of a run whose logins are l, for roles of the fixture.
func (h *roleFixture) anyRole(l *inquiry.Logins) []func(*inquiry.Options) {
	return []func(*inquiry.Options){func(o *inquiry.Options) {
		o.Logins = *l
		o.Logins.TargetRole = h.TargetDSN.User()
		o.Logins.LetsIn = func(role string) bool { return strings.HasPrefix(role, h.roles.Prefix) }
		if l.Enters == nil {
			o.Logins.Enters = func(string) bool { return true }
		}
	}}
}

// Each thing that is wrong with a login is told once, and what is printed of it, typed, removes it.
func TestALoginsFindingIsRemovedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	h := newRoleFixture(t)
	pgtest.Exec(t, h.Source, "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
	pgtest.Exec(t, h.TargetAdmin, "SET TimeZone = 'Asia/Tokyo'") // where the one is who types
	group, late := h.roles.Role(t, "group", "NOLOGIN", "NOLOGIN"), h.roles.Role(t, "late", "NOLOGIN", "")
	for _, x := range []struct{ code, name, source, target, more string }{
		{"login_gains", "console", "LOGIN", "LOGIN BYPASSRLS CREATEROLE CREATEDB REPLICATION", ""},
		{"login_gains", "inherits", "LOGIN NOINHERIT IN ROLE " + group, "LOGIN IN ROLE " + group, ""},
		{"login_loses", "sees", "LOGIN BYPASSRLS", "LOGIN", ""},
		{"login_loses", "absent", "LOGIN BYPASSRLS", "", ""},
		{"login_loses", "walsender", "LOGIN REPLICATION CREATEDB", "LOGIN", ""},
		{"login_loses", "member", "LOGIN", "LOGIN", "GRANT " + group + " TO @"},
		{"login_loses", "of_late", "LOGIN", "LOGIN", "GRANT " + late + " TO @"},
		{"login_loses", "inherited", "LOGIN IN ROLE " + group, "LOGIN NOINHERIT IN ROLE " + group, ""},
		{"login_loses", "all", "LOGIN BYPASSRLS CREATEROLE", "LOGIN NOINHERIT", "GRANT " + group + " TO @"},
		{"login_limit", "limit", "LOGIN CONNECTION LIMIT 2", "LOGIN", ""},
		{"login_locked", "locked", "LOGIN", "NOLOGIN", ""},
		{"login_valid_until", "until", "LOGIN VALID UNTIL '2100-01-01 00:00:00+00'", "LOGIN VALID UNTIL '2001-01-01'", ""},
		{"login_valid_until", "for_ever", "LOGIN", "LOGIN VALID UNTIL '2001-01-01'", ""},
		{"login_valid_until", "today", "LOGIN VALID UNTIL '2100-01-01 12:00:00+00'", "LOGIN VALID UNTIL '2100-01-01 11:00:00+00'", ""},
	} {
		told := h.removes(t, situation{code: x.code, change: h.anyRole(&inquiry.Logins{}), arise: func(t *testing.T) {
			role := h.roles.Role(t, x.name, x.source, x.target)
			pgtest.Exec(t, h.SourceAdmin, strings.ReplaceAll(x.more, "@", role))
		}})
		require.Equal(t, h.roles.Prefix+x.name, told.Object)
	}
}

// Where there is a choice, or no statement, what is printed helps all the same.
func TestAWordOfTheOperatorsAboutALoginIsTakenAsItIsPrinted(t *testing.T) {
	t.Parallel()
	h := newRoleFixture(t)
	l := &inquiry.Logins{}
	option := func(options ...*regexp.Regexp) func(*testing.T, ...answer.Finding) {
		return func(t *testing.T, found ...answer.Finding) {
			for _, o := range options {
				given(t, l, found[0].Remedy, o)
			}
		}
	}
	typed := func(begins string) func(*testing.T, ...answer.Finding) {
		return func(t *testing.T, found ...answer.Finding) {
			pgtest.Exec(t, h.TargetAdmin, statement(t, found[0].Remedy, begins))
		}
	}
	role := func(name, source, target string) func(*testing.T) {
		return func(t *testing.T) { h.roles.Role(t, name, source, target) }
	}
	all := h.anyRole(l)
	h.removes(t, situation{code: "login_superuser", change: all, arise: role("boss", "LOGIN SUPERUSER", "LOGIN"), typed: option(saidMapRole)})
	h.removes(t, situation{code: "login_superuser", change: all, arise: role("boss2", "LOGIN SUPERUSER", ""), typed: option(saidMapRole)})

	// A password that nobody knows.
	l.Enters = func(name string) bool { return !strings.HasSuffix(name, "unknown") }
	all = h.anyRole(l)
	h.removes(t, situation{code: "login_unknown", change: all, arise: role("1_unknown", "LOGIN", "LOGIN"), typed: option(saidMapRole)})
	h.removes(t, situation{code: "login_unknown", change: all, arise: role("2_unknown", "LOGIN", "LOGIN"), typed: typed("DROP ROLE ")})
	l.Enters = nil
	all = h.anyRole(l)

	// Another name, which is not there.
	h.removes(t, situation{code: "login_missing", change: all, arise: func(t *testing.T) {
		l.Mapped[h.roles.Role(t, "mapped", "LOGIN", "")] = h.roles.Prefix + "nobody"
	}})
	pgtest.Exec(t, h.SourceAdmin, "ALTER ROLE "+h.roles.Prefix+"mapped NOLOGIN; ALTER ROLE "+h.roles.Prefix+"boss NOLOGIN; ALTER ROLE "+h.roles.Prefix+"boss2 NOLOGIN; ALTER ROLE "+h.roles.Prefix+"1_unknown NOLOGIN")
	l.Mapped = nil

	// Another name, where the catalog asks for it.
	pgtest.Exec(t, h.Source, "CREATE TABLE t (id int PRIMARY KEY, owner text DEFAULT session_user)")
	app, there := h.roles.Role(t, "app", "LOGIN", ""), h.roles.Role(t, "there", "", "LOGIN")
	h.removes(t, situation{code: "login_identity", change: all, arise: func(*testing.T) { l.Mapped = map[string]string{app: there} },
		typed: func(t *testing.T, found ...answer.Finding) {
			require.Contains(t, found[0].Remedy, keepsName)
			l.Mapped = nil
		}})

	// What is set for a role, with values that quoting could spoil. They are told by nobody.
	settings := h.removes(t, situation{code: "login_settings", change: all, arise: func(t *testing.T) {
		role := h.roles.Role(t, "Set's", "LOGIN", "LOGIN")
		for name, value := range map[string]string{"search_path": `"$user", "a b", public`, "app.tenant": `'it''s "secret"'`, "work_mem": "'3MB'", "temp_tablespaces": "''"} {
			pgtest.Exec(t, h.SourceAdmin, "ALTER ROLE "+pg.QuoteIdent(role)+" SET "+name+" TO "+value)
		}
	}, typed: func(t *testing.T, found ...answer.Finding) {
		rows, err := h.SourceAdmin.Query(t.Context(), statement(t, found[0].Remedy, "SELECT format("))
		require.NoError(t, err)
		printed, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Len(t, printed, 4)
		for _, sql := range printed {
			pgtest.Exec(t, h.TargetAdmin, sql)
		}
	}})
	require.NotContains(t, settings.String(), "secret")
}

// The role of --target is the application's too: another one for --target, or the operator's word.
func TestTheRoleOfTheTargetThatIsALoginIsTold(t *testing.T) {
	t.Parallel()
	h := newRoleFixture(t)
	app := h.roles.Role(t, "app", "LOGIN", "LOGIN CREATEROLE")
	l := &inquiry.Logins{}
	target := app
	whose := func(o *inquiry.Options) { o.Logins.TargetRole = target }
	ask := func() (found []answer.Finding) {
		for _, x := range h.whole(t, append(h.anyRole(l), whose)...) {
			if x.Object == app && strings.HasPrefix(x.Code, "login_") && x.Code != "login_gains" {
				found = append(found, x)
			}
		}
		return found
	}
	found := ask()
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "login_is_target_role", app}}, preflighttest.Short(found))
	given(t, l, found[0].Remedy, saidMapRole)
	given(t, l, found[0].Remedy, saidAccept)
	found = ask()
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "login_is_target_role", app}}, preflighttest.Short(found), "it is the operator's word now")
	require.Equal(t, "give --target another role that may make roles, and leave --map-role out for "+app, found[0].Remedy)
	target, l.Mapped = h.TargetDSN.User(), nil
	require.Empty(t, ask(), "the remedy helps")

	// Under another name it is by --map-role alone.
	l.Mapped = map[string]string{app: h.TargetDSN.User()}
	found = ask()
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "login_is_target_role", app}}, preflighttest.Short(found))
	require.Equal(t, keepsName, found[0].Remedy)
	l.Mapped = nil
	require.Empty(t, ask(), "the remedy helps")
}
