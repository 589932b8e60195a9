package passive_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/passive"
)

// locksOf are the tables that a session has locked, by mode, but for reading.
const locksOf = `SELECT string_agg(l.relation::regclass::text, ', ' ORDER BY n.nspname, c.relname) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p')
	JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.pid = $1 AND l.granted AND l.mode = $2 AND n.nspname IN ('app', 'we ird')`

// waits waits until the session with this pid waits for a lock.
func waits(t *testing.T, watching *pgx.Conn, pid uint32) {
	t.Helper()
	require.Eventually(t, func() bool {
		return pgtest.Value(t, watching, `SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted`, pid) == "1"
	}, pgtest.Timeout, time.Millisecond)
}

// begun is a Make that waits for a lock of holder's.
func begun(t *testing.T, s side, cfg passive.Config, holder *pgx.Conn) (conn *pgx.Conn, ended chan error) {
	t.Helper()
	conn, ended = pgtest.Conn(t, s.writer), make(chan error, 1)
	pgtest.Exec(t, conn, "BEGIN")
	go func() { ended <- passive.Make(t.Context(), conn, cfg) }()
	waits(t, holder, conn.PgConn().PID())
	return conn, ended
}

// A wait for a lock is bounded by the caller's lock_timeout, whose error can be told.
func TestAWaitForALockIsTheCallers(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	reader := pgtest.Conn(t, s.owner)
	pgtest.Exec(t, reader, `BEGIN; SELECT FROM app.numbered`)
	conn := pgtest.Conn(t, s.writer)
	pgtest.Exec(t, conn, `BEGIN; SET LOCAL lock_timeout = '50ms'`)
	require.True(t, pg.IsCode(passive.Make(t.Context(), conn, config), pg.CodeLockNotAvailable))
}

// Tables are locked in the order of their names, each at once in the mode that it needs, before
// anything is changed.
func TestTablesAreLockedInOrder(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	reader := pgtest.Conn(t, s.owner)
	pgtest.Exec(t, reader, `BEGIN; SELECT FROM "we ird"."bo""ok"`) // the last one
	conn, ended := begun(t, s, config, reader)
	require.Equal(t, `app.archive, app.archive_1, app.author, app.dated, app.dated_child, app.dated_plain_child, app.fee, app.half_secret, `+
		`app.loan, app.loan_1, app.loan_2, app.loan_2_high, app.loan_2_low, app.numbered, app.ruled, app.secret`,
		pgtest.Value(t, reader, locksOf, conn.PgConn().PID(), "AccessExclusiveLock"))
	require.Equal(t, "app.emptied, app.log, app.log_1", pgtest.Value(t, reader, locksOf, conn.PgConn().PID(), "ShareRowExclusiveLock"))
	require.Equal(t, "0", pgtest.Value(t, reader, `SELECT count(*) FROM pg_locks WHERE pid = $1 AND granted AND relation = '"we ird"."bo""ok"'::regclass AND mode <> 'AccessShareLock'`, conn.PgConn().PID()))
	pgtest.Exec(t, reader, "COMMIT")
	require.NoError(t, <-ended)
	pgtest.Exec(t, conn, "ROLLBACK")
}

// What was made while it waited for the locks is set aside as well; where that needs a lock that it
// has not taken, it is to be tried again.
func TestWhatIsMadeWhileItWaits(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	other := pgtest.Conn(t, s.owner)
	pgtest.Exec(t, other, `BEGIN; CREATE TRIGGER t_new AFTER INSERT ON app.author FOR EACH ROW EXECUTE FUNCTION app.fire()`)
	conn, ended := begun(t, s, config, other)
	pgtest.Exec(t, other, "COMMIT")
	require.NoError(t, <-ended)
	pgtest.Exec(t, conn, "COMMIT")
	require.Equal(t, "D", pgtest.Value(t, conn, `SELECT tgenabled FROM pg_trigger WHERE tgname = 't_new'`))
	decide(t, conn)
	finish(t, conn)

	for table, sql := range map[string]string{
		"app.event":   `CREATE TRIGGER t_new AFTER INSERT ON app.event FOR EACH ROW EXECUTE FUNCTION app.fire()`,
		"app.emptied": `CREATE RULE r_new AS ON INSERT TO app.emptied DO NOTHING`, // it is to be locked, but not against readers
	} {
		pgtest.Exec(t, other, `BEGIN; LOCK TABLE app.author IN SHARE MODE`)
		waiting, ended := begun(t, s, config, other)
		pgtest.Exec(t, conn, sql)
		pgtest.Exec(t, other, "COMMIT")
		err := <-ended
		require.ErrorIs(t, err, passive.ErrChanged, sql)
		require.ErrorContains(t, err, table)
		pgtest.Exec(t, waiting, "ROLLBACK")
	}
	makePassive(t, conn, config)
}

// The caller's search_path neither matters nor is changed, whatever it leads to.
func TestTheSearchPathIsTheCallers(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	before := s.picture(t)
	conn := pgtest.Conn(t, s.writer, pg.WithParam("search_path", "evil, app, pg_catalog"))
	pgtest.Exec(t, conn, `CREATE SCHEMA evil; CREATE FUNCTION evil.wrong(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
		CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.wrong); CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''-infinity''::timestamptz'`)
	pgtest.Exec(t, conn, "BEGIN")
	require.NoError(t, passive.Make(t.Context(), conn, config))
	require.Equal(t, "evil, app, pg_catalog", pgtest.Value(t, conn, "SELECT current_setting('search_path')"))
	pgtest.Exec(t, conn, "COMMIT")
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_catalog.pg_constraint WHERE conname::text OPERATOR(pg_catalog.=) 'Not later'`), "no operator of the path's was called")
	decide(t, conn)
	finish(t, conn)
	pgtest.Exec(t, conn, `DROP SCHEMA evil CASCADE`)
	requireSame(t, before, s.picture(t))
}
