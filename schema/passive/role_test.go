package passive_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/fingerprint"
	"crossfade/schema/passive"
	"crossfade/schema/plan"
)

// Where the applier can be in replica mode, only what acts even then is set aside.
func TestReplicaModeLeavesTheRest(t *testing.T) {
	t.Parallel()
	for _, w := range []who{superuser, grantee} {
		t.Run(string(w), func(t *testing.T) {
			t.Parallel()
			s := newSide(t, w)
			conn := pgtest.Conn(t, s.writer)
			keys := pgtest.Value(t, conn, `SELECT count(*) FROM pg_constraint WHERE contype = 'f'`)
			makePassive(t, conn, config)
			require.Equal(t, keys, pgtest.Value(t, conn, `SELECT count(*) FROM pg_constraint WHERE contype = 'f'`))
			sql, err := passive.Restoration(t.Context(), conn)
			require.NoError(t, err)
			names := lists.Map(lists.Filter(sql.Decide, func(s plan.Statement) bool { return s.Kind == "TRIGGER" || s.Kind == "RULE" }),
				func(s plan.Statement) string { return s.Name })
			require.ElementsMatch(t, []string{"author t_a", "author t_r", "author t_deferred_a", "loan t_tree_a", "loan_1 t_tree_a", "loan_2 t_tree_a",
				"loan_2_low t_tree_a", "loan_2_high t_tree_a", "loan_2_low t_tree", "ruled r_a", "ruled r_r"}, names)
			require.Equal(t, w == grantee, strings.Contains(strings.Join(texts(sql.Decide), ";"), "ROW LEVEL SECURITY"), "a superuser is bound by no policy")
		})
	}
}

// A role that has lost the right to be in replica mode does not write; what relied on that mode is
// set aside by the next Make, and stays so when the right has come again.
func TestARightThatIsTakenAway(t *testing.T) {
	t.Parallel()
	s := newSide(t, grantee)
	before := s.picture(t)
	conn := pgtest.Conn(t, s.writer)
	makePassive(t, conn, config)
	require.NoError(t, passive.Enter(t.Context(), pgtest.Conn(t, s.writer)))
	s.grant(t, "REVOKE", "FROM")
	err := passive.Enter(t.Context(), pgtest.Conn(t, s.writer))
	require.ErrorIs(t, err, passive.ErrNotReplica)
	require.Equal(t, pg.CodeInsufficientPrivilege, pg.Code(err))

	makePassive(t, conn, config)
	s.grant(t, "GRANT", "TO")
	makePassive(t, conn, config)
	applier := pgtest.Conn(t, s.writer, pg.WithParam("row_security", "off"))
	require.NoError(t, passive.Enter(t.Context(), applier))
	require.Equal(t, "origin", pgtest.Value(t, applier, "SELECT current_setting('session_replication_role')"))
	for _, sql := range writes {
		require.NoError(t, pg.Exec(t.Context(), applier, sql), sql)
	}
	require.Empty(t, pgtest.Value(t, conn, `SELECT string_agg(what, ', ') FROM app.fired`))
	pgtest.Exec(t, applier, whole)
	decide(t, conn)
	finish(t, conn)
	requireSame(t, before, s.picture(t))
}

// The triggers of a foreign key may act in replica mode. A superuser sets them aside as others; for
// another role, which may not, the key itself is dropped.
func TestKeysThatActInReplicaMode(t *testing.T) {
	t.Parallel()
	for _, w := range []who{superuser, grantee} {
		t.Run(string(w), func(t *testing.T) {
			t.Parallel()
			s := newSide(t, w)
			admin := pgtest.Conn(t, s.cluster.AdminDSN(s.owner.Database()))
			pgtest.Exec(t, admin, `DO $$ DECLARE r record; BEGIN
				FOR r IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'app.fee'::regclass LOOP
					EXECUTE format('ALTER TABLE app.fee ENABLE ALWAYS TRIGGER %I', r.tgname);
				END LOOP; END $$`)
			before := s.picture(t)
			conn := pgtest.Conn(t, s.writer)
			makePassive(t, conn, config)
			applier := pgtest.Conn(t, s.writer)
			require.NoError(t, passive.Enter(t.Context(), applier))
			pgtest.Exec(t, applier, `INSERT INTO app.fee VALUES (10, 11, 2); DELETE FROM app.fee WHERE id = 10`)
			keys := pgtest.Value(t, conn, `SELECT count(*) > 0 FROM pg_constraint WHERE contype = 'f'`)
			require.Equal(t, map[who]string{superuser: "true", grantee: "false"}[w], keys)
			decide(t, conn)
			finish(t, conn)
			if w == superuser {
				requireSame(t, before, s.picture(t))
			}
		})
	}
}

// Before PostgreSQL 15 only a superuser may change the state of a partition's trigger.
func TestTriggersOfPartitionsAreDroppedWithTheirTables(t *testing.T) {
	t.Parallel()
	old := passive.Config{Checks: late, Version: 140010}
	s := newSide(t, owner)
	conn := pgtest.Conn(t, s.writer)
	err := pgx.BeginFunc(t.Context(), conn, func(pgx.Tx) error { return passive.Make(t.Context(), conn, old) })
	require.ErrorContains(t, err, "trigger t_tree of partition app.loan_1 is in the state DISABLE TRIGGER")

	pgtest.Exec(t, conn, `ALTER TABLE app.loan ENABLE TRIGGER t_tree; ALTER TABLE app.loan ENABLE TRIGGER t_tree_a; ALTER TABLE ONLY app.loan ENABLE ALWAYS TRIGGER t_tree_a;
		COMMENT ON TRIGGER t_tree ON app.loan IS 'kept'; COMMENT ON TRIGGER t_leaf ON app.loan_1 IS 'never dropped'`)
	before := s.picture(t)
	reader := pgtest.Conn(t, s.owner)
	pgtest.Exec(t, reader, `BEGIN; SELECT FROM "we ird"."bo""ok"`)
	waiting, ended := begun(t, s, old, reader)
	require.Contains(t, pgtest.Value(t, reader, locksOf, waiting.PgConn().PID(), "AccessExclusiveLock"), ", app.log, app.log_1, ")
	pgtest.Exec(t, reader, "COMMIT")
	require.NoError(t, <-ended)
	pgtest.Exec(t, waiting, "ROLLBACK")

	makePassive(t, conn, old)
	require.Equal(t, "app.loan_1 t_leaf D, app.loan t_root D", pgtest.Value(t, conn, `SELECT string_agg(concat_ws(' ', tgrelid::regclass, tgname, tgenabled), ', ' ORDER BY tgname)
		FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'app.loan%' AND NOT tgisinternal AND tgname <> 'zz_crossfade_fence'`))
	makePassive(t, conn, old)
	decide(t, conn)
	finish(t, conn)
	requireSame(t, before, s.picture(t))
}

// A side's schema is the same to a cutover while it is passive, and to the next one.
func TestAPassiveSideHasTheSameFingerprint(t *testing.T) {
	t.Parallel()
	for _, w := range []who{owner, superuser} {
		t.Run(string(w), func(t *testing.T) {
			t.Parallel()
			s := newSide(t, w)
			conn := pgtest.Conn(t, s.writer)
			opts := fingerprint.Options{Deferred: true, Checks: late}
			before, err := fingerprint.Take(t.Context(), conn, opts)
			require.NoError(t, err)
			makePassive(t, conn, config)
			after, err := fingerprint.Take(t.Context(), conn, opts)
			require.NoError(t, err)
			require.Empty(t, fingerprint.Drift(before, after))
			require.Empty(t, fingerprint.Drift(after, before))
		})
	}
}
