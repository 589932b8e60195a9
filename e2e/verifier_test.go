package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestUsersProveThemselvesByTheSource serves roles whose passwords nobody has told us: their
// clients prove themselves by the source's verifiers before and after the switch and after a
// restart, the users file says only who they are at the target. One that is on the target already,
// with a password that nobody has told us, holds the cutover up before anybody asks for it, by
// name. The file is read again without a session noticing.
func TestUsersProveThemselvesByTheSource(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	base := "v" + strings.ToLower(rand.Text()[:8])
	kept, alone, late, over, there := base+"kept", base+"alone", base+"late", base+"over", base+"there"
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	for role, options := range map[string]string{kept: "", alone: "", late: "", over: " VALID UNTIL '2001-01-01'"} {
		pgtest.Exec(t, admin, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'pw-%s'%s", role, role, options))
		t.Cleanup(func() { pgtest.DropRole(t, s.sourceCluster, s.source.Database(), role) })
		pgtest.Exec(t, admin, "GRANT CONNECT ON DATABASE "+s.source.Database()+" TO "+role)
	}
	pgtest.Exec(t, admin, "ALTER ROLE "+kept+" SET DateStyle = 'German'")
	pgtest.Exec(t, admin, "GRANT SELECT ON pg_catalog.pg_authid TO "+s.source.User())
	pgtest.Exec(t, adminOf(t, s.targetCluster, "postgres"), fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'pw-there'; CREATE ROLE %s LOGIN PASSWORD 'somebody-else''s'", there, alone))
	for _, role := range []string{there, alone, kept, late, over} { // the last three are made by the run
		t.Cleanup(func() { pgtest.DropRole(t, s.targetCluster, s.target.Database(), role) })
	}

	file := filepath.Join(t.TempDir(), "users")
	write := func(lines string) { require.NoError(t, os.WriteFile(file, []byte(lines), 0o600)) }
	write(fmt.Sprintf("%s - %s pw-there\n%s - %s pw-there\n", kept, there, over, there))
	p := newProcess(t, s, "--users="+file, "--map-role=postgres=-")
	p.start()
	named := p.await("the role without credentials is named", func(s control.Status) bool {
		return slices.ContainsFunc(s.Blockers, func(b control.Blocker) bool { return b.Code == "login_unknown" && strings.Contains(b.Detail, alone) })
	})
	require.False(t, named.Ready)
	require.Zero(t, named.Proxy.Sessions, "nobody is logged in")
	login := func(user, password string) (*pgx.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgx.ConnectConfig(ctx, p.proxied().WithUser(user, password).Config())
		if err == nil {
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
		}
		return conn, err
	}
	as := func(user string) *pgx.Conn {
		conn, err := login(user, "pw-"+user)
		require.NoError(t, err)
		return conn
	}
	refused := func(code, user, password string) error {
		_, err := login(user, password)
		require.Equal(t, code, pg.Code(err), "%s: %v", user, err)
		return err
	}
	moving, held := as(kept), as(alone)
	require.Equal(t, kept, pgtest.Value(t, moving, "SELECT session_user"))
	require.Equal(t, alone, pgtest.Value(t, held, "SELECT session_user"))
	for range 2 {
		refused(pg.CodeInvalidPassword, kept, "wr0ng")
		refused(pg.CodeInvalidPassword, over, "pw-"+over)
		refused(pg.CodeInvalidPassword, base+"nobody", "wr0ng")
	}

	r, err := p.client.Cutover(t.Context(), control.CutoverOptions{Attempts: 1})
	require.True(t, err != nil || r.Outcome == control.OutcomeAborted, "%+v", r)
	require.NotContains(t, fmt.Sprint(r.Reason, err), "pw-")
	require.NoError(t, held.Close(t.Context()))

	// A broken file, then a good one with a further user.
	write(fmt.Sprintf("%s - %s\n", kept, "s3cret"))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "users file not taken over") }, patience, 50*time.Millisecond)
	require.Contains(t, p.log.String(), "line 1: has 3 values")
	write(fmt.Sprintf("%s - %s pw-there\n%s - %s pw-there\n%s pw-%s %s pw-there\n", kept, there, over, there, late, late, there))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "users file taken over") }, patience, 50*time.Millisecond)
	require.Equal(t, kept, pgtest.Value(t, moving, "SELECT session_user"), "the session goes on")
	pgtest.Exec(t, admin, "ALTER ROLE "+alone+" NOLOGIN")
	p.awaitFollowing()

	require.Zero(t, p.cutover().ClientErrors)
	require.Equal(t, there, pgtest.Value(t, moving, "SELECT session_user"))
	throughRelay := func() {
		fresh := as(kept)
		require.Equal(t, there, pgtest.Value(t, fresh, "SELECT session_user"))
		require.Equal(t, "German, DMY", pgtest.Value(t, fresh, "SELECT pg_catalog.current_setting('DateStyle')"), "the source's setting for the role")
		require.Equal(t, there, pgtest.Value(t, as(late), "SELECT session_user"))
		refused(pg.CodeInvalidPassword, kept, "wr0ng")
		refused(pg.CodeInvalidPassword, over, "pw-"+over)
		refused(pg.CodeInvalidAuthorization, alone, "pw-"+alone)
	}
	throughRelay()
	p.kill()
	pgtest.Exec(t, admin, "ALTER ROLE "+kept+" PASSWORD 'changed'") // what was kept counts from here on
	p.start()
	p.awaitServing()
	throughRelay()
	require.Equal(t, 0, p.stop())
	for _, secret := range []string{"pw-" + kept, "pw-there", "wr0ng", "s3cret", "SCRAM-SHA-256$"} {
		require.NotContains(t, p.log.String(), secret)
	}
}
