package passive_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/pairtest"
	"crossfade/schema/passive"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// kinds are the kinds of statements, each once, in order.
func kinds(statements []plan.Statement) (out []string) {
	return lists.AddNew(out, lists.Map(statements, func(s plan.Statement) string { return s.Kind })...)
}

func texts(statements []plan.Statement) []string {
	return lists.Map(statements, func(s plan.Statement) string { return s.SQL })
}

// runSome executes what is due as long as pick says so, as if the process had ended then.
func runSome(t *testing.T, conn *pgx.Conn, pick func(plan.Statement) bool) {
	t.Helper()
	for _, s := range pending(t, conn) {
		if pick(s) {
			pairtest.RunAfter(t, conn, []plan.Statement{s})
			require.NoError(t, passive.Done(t.Context(), conn, s))
			require.NoError(t, passive.Done(t.Context(), conn, s), "it may be told again")
		}
	}
}

// A side that is made passive while its keys are still to be validated, or the key of a partitioned
// table is still to be added, gets all of it after the next decision.
func TestWhatARestorationHasLeftUndoneIsStillDue(t *testing.T) {
	t.Parallel()
	for name, done := range map[string]func(plan.Statement) bool{
		"nothing was done":           func(plan.Statement) bool { return false },
		"some keys were validated":   func(s plan.Statement) bool { return s.Kind == "VALIDATE" && strings.Contains(s.SQL, "loan_1") },
		"all but comments were done": func(s plan.Statement) bool { return s.Kind != "COMMENT" },
		"one key of a tree is there": func(s plan.Statement) bool {
			return s.Kind == "VALIDATE" || s.Kind == "FK CONSTRAINT" && strings.Contains(s.SQL, "loan_earlier")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSide(t, owner)
			before := s.picture(t)
			conn := pgtest.Conn(t, s.writer)
			makePassive(t, conn, config)
			decide(t, conn)
			all := pending(t, conn)
			runSome(t, conn, done)
			left := pending(t, conn)

			makePassive(t, conn, config)
			require.Empty(t, pending(t, conn))
			require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_constraint WHERE contype = 'f'`))
			sql, err := passive.Restoration(t.Context(), conn)
			require.NoError(t, err)
			require.Subset(t, texts(sql.After), texts(left))
			require.ElementsMatch(t, texts(all), texts(sql.After), "each statement once")
			require.Equal(t, []string{"VALIDATE", "FK CONSTRAINT", "COMMENT"}, kinds(sql.After))
			decide(t, conn)
			finish(t, conn)
			requireSame(t, before, s.picture(t))
		})
	}
}

// The first decision of a target is the plan's, which keeps no record of what follows it: what that
// has left undone when the target is written again is handed over.
func TestWhatTheFirstDecisionHasLeftUndoneIsStillDue(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	source := pgtest.Conn(t, p.Source)
	pgtest.Exec(t, source, reacting)
	planned, db := p.Plan(t)
	target := pgtest.Conn(t, p.Target)
	p.Restore(t, planned, plan.PreData, 1)
	require.NoError(t, restore.Run(t.Context(), target, plan.IdentityByDefault(db)))
	p.Restore(t, planned, plan.AfterCopy, 1)
	sql, err := planned.DecisionSQL(plan.DecisionConfig{Source: db, Target: db.Version / 10000, Roles: p.Roles})
	require.NoError(t, err)
	pairtest.InTx(t, target, func() error { return restore.Run(t.Context(), target, sql.Decide) })

	cfg := passive.Config{Checks: planned.LateChecks(), Undone: sql.After}
	pairtest.InTx(t, target, func() error { return passive.Make(t.Context(), target, cfg) })
	decide(t, target)
	finish(t, target)
	p.Restore(t, planned, plan.Last, 1)
	requireSame(t, pairtest.DumpText(t, p.Source, p.Roles), pairtest.DumpText(t, p.Target, nil))
	require.Subset(t, planned.LateChecks(), late)
}

// A second call sets aside what has come since the first, and what was restored by hand.
func TestMakeAddsToWhatIsSetAside(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	conn := pgtest.Conn(t, s.writer)
	makePassive(t, conn, config)
	first, err := passive.Restoration(t.Context(), conn)
	require.NoError(t, err)
	makePassive(t, conn, config)
	second, err := passive.Restoration(t.Context(), conn)
	require.NoError(t, err)
	require.Equal(t, first, second, "there was nothing to set aside")
	require.ElementsMatch(t, []string{"SETTING", "FK CONSTRAINT", "COMMENT", "CHECK CONSTRAINT", "IDENTITY", "TRIGGER", "RULE", "ROW SECURITY"}, kinds(first.Decide))

	pgtest.Exec(t, conn, `CREATE TRIGGER t_new AFTER INSERT ON app.ruled FOR EACH ROW EXECUTE FUNCTION app.fire();
		ALTER TABLE app.author ENABLE TRIGGER t_o; ALTER TABLE app.fee ADD CONSTRAINT fee_new FOREIGN KEY (id) REFERENCES app.author NOT VALID`)
	makePassive(t, conn, config)
	third, err := passive.Restoration(t.Context(), conn)
	require.NoError(t, err)
	require.Len(t, third.Decide, len(first.Decide)+2)
	require.Equal(t, first.Decide, third.Decide[:len(first.Decide)])
	require.Equal(t, first.After, third.After)
	require.Equal(t, "D D", pgtest.Value(t, conn, `SELECT string_agg(tgenabled::text, ' ') FROM pg_trigger WHERE tgname IN ('t_new', 't_o')`))
}

// Where nothing is set aside, nothing is to be restored.
func TestASideThatIsNotPassiveHasNoRestoration(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	conn := pgtest.Conn(t, s.writer)
	sql, err := passive.Restoration(t.Context(), conn)
	require.NoError(t, err)
	require.Empty(t, sql)
	require.Empty(t, pending(t, conn))
	require.NoError(t, passive.Done(t.Context(), conn, plan.Statement{SQL: "SELECT"}))
	require.ErrorContains(t, passive.Make(t.Context(), conn, config), "no transaction is open")
}

// A transaction that does not commit leaves the side as it was, and so does a Make that fails.
func TestMakeIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	before := s.picture(t)
	conn := pgtest.Conn(t, s.writer)
	pgtest.Exec(t, conn, "BEGIN")
	require.NoError(t, passive.Make(t.Context(), conn, config))
	admin := pgtest.Conn(t, s.cluster.AdminDSN(s.owner.Database()))
	require.Equal(t, "true", pgtest.Value(t, admin, `SELECT pg_terminate_backend($1)`, conn.PgConn().PID()))
	require.Error(t, pg.Exec(t.Context(), conn, "COMMIT"))
	requireSame(t, before, s.picture(t))

	// The last table that is changed is not the role's own.
	pgtest.Exec(t, admin, `CREATE TABLE app.zz (id int); CREATE RULE zz AS ON INSERT TO app.zz DO NOTHING; GRANT ALL ON app.zz TO `+pg.QuoteIdent(s.owner.User()))
	before = s.picture(t)
	conn = pgtest.Conn(t, s.writer)
	err := pgx.BeginFunc(t.Context(), conn, func(pgx.Tx) error { return passive.Make(t.Context(), conn, config) })
	require.Equal(t, pg.CodeInsufficientPrivilege, pg.Code(err))
	requireSame(t, before, s.picture(t))
	require.Equal(t, "0", pgtest.Value(t, conn, "SELECT count(*) FROM crossfade.reaction"))
}

// What could not be restored is not set aside: it is found out while nothing is lost.
func TestWhatCannotBeRestoredIsNotSetAside(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	admin := pgtest.Conn(t, s.cluster.AdminDSN(s.owner.Database()))
	pgtest.Exec(t, admin, `CREATE TABLE app.theirs (id int PRIMARY KEY); ALTER TABLE app.fee ADD CONSTRAINT fee_theirs FOREIGN KEY (id) REFERENCES app.theirs NOT VALID`)
	pgtest.Exec(t, admin, `GRANT UPDATE ON app.theirs TO `+pg.QuoteIdent(s.owner.User())) // for the lock
	conn := pgtest.Conn(t, s.writer)
	err := pgx.BeginFunc(t.Context(), conn, func(pgx.Tx) error { return passive.Make(t.Context(), conn, config) })
	require.Equal(t, pg.CodeInsufficientPrivilege, pg.Code(err))
	require.ErrorContains(t, err, "fee fee_theirs")
	require.ErrorContains(t, err, "could not be restored")
	require.Equal(t, "1", pgtest.Value(t, conn, `SELECT count(*) FROM pg_constraint WHERE conname = 'fee_theirs'`))
	pgtest.Exec(t, admin, `GRANT REFERENCES ON app.theirs TO `+pg.QuoteIdent(s.owner.User()))
	makePassive(t, conn, config)
}

// A comment, or an expression, may be longer than what an index takes.
func TestStatementsMayBeLong(t *testing.T) {
	t.Parallel()
	s := newSide(t, owner)
	conn := pgtest.Conn(t, s.writer)
	var long strings.Builder
	for range 2000 {
		long.WriteString(rand.Text())
	}
	pgtest.Exec(t, conn, `COMMENT ON CONSTRAINT fee_loan ON app.fee IS `+pg.QuoteLiteral(long.String()))
	before := s.picture(t)
	makePassive(t, conn, config)
	decide(t, conn)
	finish(t, conn)
	requireSame(t, before, s.picture(t))
}
