package e2e_test

import (
	"context"
	"crypto/rand"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// ddlCase is one change of the source while the run follows.
type ddlCase struct {
	sql string
	// names are what the refusal must say: object and property. Without any the
	// change is carried over.
	names []string
	undo  string // takes a change back that is refused
}

// ddlSides makes sides whose roles are superusers, as some of the statements need, and
// a run that follows. names puts the test's own into a case.
func ddlSides(t *testing.T) (p *process, conn *pgx.Conn, names *strings.Replacer) {
	t.Helper()
	source, target := pgtest.Own(t, pgtest.Source), pgtest.Own(t, pgtest.Target) // roles are of the whole server
	role := "ddl_" + strings.ToLower(rand.Text()[:8])                            // that both have
	for _, c := range []*pgcluster.Cluster{source, target} {
		pgtest.Exec(t, adminOf(t, c, "postgres"), "CREATE ROLE "+role)
		t.Cleanup(func() { pgtest.Exec(t, adminOf(t, c, "postgres"), "DROP ROLE "+role) })
	}
	s := &sides{sourceCluster: source, targetCluster: target, source: superuserTarget(t, source), target: superuserTarget(t, target)}
	t.Cleanup(func() { dropSlotsOf(t, source, s.source.Database()) })
	conn = pgtest.Conn(t, s.source)
	pgtest.Exec(t, conn, ddlSetup+"; REVOKE CONNECT ON DATABASE "+pg.QuoteIdent(s.source.Database())+" FROM PUBLIC") // roles of other tests
	t.Cleanup(func() { dropSubscriptions(t, conn) })
	p = newProcess(t, s, "--map-role=postgres=cloud_admin", "--accept-rights=postgres")
	p.start()
	p.awaitFollowing()
	return p, conn, strings.NewReplacer("OWNERROLE", role, "DATABASE here", "DATABASE "+s.source.Database())
}

func dropSubscriptions(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	names := strings.Fields(pgtest.Value(t, conn, `SELECT string_agg(subname, ' ') FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()`))
	for _, n := range names {
		pgtest.Exec(t, conn, "DROP SUBSCRIPTION "+n)
	}
}

// dropSlotsOf drops the slots of a database once the walsenders of a program that
// was killed are gone.
func dropSlotsOf(t *testing.T, c *pgcluster.Cluster, database string) {
	t.Helper()
	conn := adminOf(t, c, "postgres")
	require.Eventually(t, func() bool {
		_, _ = conn.Exec(context.Background(), `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL`, database)
		_, _ = conn.Exec(context.Background(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active`, database)
		return pgtest.Value(t, conn, `SELECT count(*) FROM pg_replication_slots WHERE database = $1`, database) == "0"
	}, pgtest.Timeout, 50*time.Millisecond)
}

// refused asks for a cutover until the refusal names what it must; it never switches.
func (p *process) refused(names ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		r, err := p.client.Cutover(ctx, control.CutoverOptions{})
		if err != nil {
			last = err.Error()
		} else {
			require.Equal(p.t, control.OutcomeAborted, r.Outcome, "%v: %s", names, r.Reason)
			last = r.Reason
		}
		if !slices.ContainsFunc(names, func(n string) bool { return !strings.Contains(last, n) }) {
			return
		}
		select { // the status may still know the change before this one
		case <-ctx.Done():
			require.Fail(p.t, "the refusal names something else", "want %v, last: %s", names, last)
		case <-tick.C:
		}
	}
}

var ours = regexp.MustCompile(`(?i)crossfade`)

// schemaOf is what pg_dump says of a side in the source's names, without what is ours
// and what is by design not moved.
func (s *sides) schemaOf(t *testing.T, d pg.DSN) map[string]string {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	info, env := d.LibpqEnv()
	cmd := exec.Command(b.Path("pg_dump"), "--schema-only", "--create", "--no-publications", "--no-subscriptions", "--exclude-schema=crossfade", "--dbname="+info)
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output()
	require.NoError(t, err)
	names := strings.NewReplacer("cloud_admin", "postgres", s.target.Database(), s.source.Database())
	sections := map[string]string{}
	heading := ""
	for _, l := range strings.Split(names.Replace(string(out)), "\n") {
		switch {
		case strings.HasPrefix(l, "-- Name: "):
			heading = l
		case strings.HasPrefix(l, "--") || l == "" || strings.HasPrefix(l, `\`) || strings.HasPrefix(l, "SET "):
		case !ours.MatchString(heading):
			sections[heading] += l + "\n"
		}
	}
	return sections
}

// carriedOver makes the changes one after the other, switches, and compares both sides.
func carriedOver(t *testing.T, p *process, conn *pgx.Conn, names *strings.Replacer, cases []ddlCase) {
	t.Helper()
	for i, c := range cases {
		pgtest.Exec(t, conn, names.Replace(c.sql))
		pgtest.Exec(t, conn, "INSERT INTO d.rows (n, v) VALUES ($1, $2)", i, c.sql)
	}
	p.cutover()
	p.awaitWhole()
	s, err := p.client.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "equal", s.Verify.State)
	p.finish()
	require.Zero(t, p.stop())
	want, got := p.s.schemaOf(t, p.s.source), p.s.schemaOf(t, p.s.target)
	require.Greater(t, len(want), 50)
	for heading, text := range want {
		require.Equal(t, text, got[heading], heading)
	}
	require.Len(t, got, len(want))
	requireSameContent(t, p.s.source, p.s.target)
}

// After each kind of change while following, a cutover either refuses and names object and
// property, or both sides are the same after it, schema and rows.
func TestEveryDDLWhileFollowing(t *testing.T) {
	t.Parallel()
	t.Run("every statement is tried", func(t *testing.T) {
		var all []string
		for _, c := range slices.Concat(ddlCarried, ddlRefused, ddlRows) {
			for _, sql := range append(strings.Split(c.sql, ";"), strings.Split(c.undo, ";")...) {
				all = append(all, strings.TrimSpace(sql))
			}
		}
		for _, command := range ddlCommands {
			require.True(t, slices.ContainsFunc(all, func(sql string) bool { return strings.HasPrefix(sql+" ", command+" ") }), "%s is not tried", command)
		}
	})
	t.Run("carried over", func(t *testing.T) {
		t.Parallel()
		p, conn, names := ddlSides(t)
		carriedOver(t, p, conn, names, ddlCarried)
	})
	refuse := func(t *testing.T, cases []ddlCase) {
		t.Parallel()
		p, conn, names := ddlSides(t)
		for i, c := range cases {
			if testing.Short() && i%8 != 0 {
				continue
			}
			pgtest.Exec(t, conn, names.Replace(c.sql))
			p.refused(c.names...)
			if c.undo != "" {
				pgtest.Exec(t, conn, c.undo)
			}
		}
		if cases[0].undo != "" { // what was reverted leaves no trace
			p.awaitFollowing()
			carriedOver(t, p, conn, names, nil)
		}
	}
	half := len(ddlRefused) / 2
	t.Run("refused", func(t *testing.T) { refuse(t, ddlRefused[:half]) })
	t.Run("refused, second half", func(t *testing.T) { refuse(t, ddlRefused[half:]) })
	t.Run("rows", func(t *testing.T) { refuse(t, ddlRows) })
}
