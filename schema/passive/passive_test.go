package passive_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/passive"
)

// What was set aside is as it was once it is restored, whoever does it.
func TestWhatIsSetAsideComesBack(t *testing.T) {
	t.Parallel()
	for _, w := range []who{owner, superuser, grantee} {
		t.Run(string(w), func(t *testing.T) {
			t.Parallel()
			s := newSide(t, w)
			before := s.picture(t)
			conn := pgtest.Conn(t, s.writer)
			makePassive(t, conn, config)
			require.False(t, before == s.picture(t))
			require.Empty(t, pending(t, conn), "nothing is due before the decision")
			decide(t, conn)
			finish(t, conn)
			requireSame(t, before, s.picture(t))
		})
	}
}

// writes are what an applier may do to a passive side, in an order in which every foreign key is
// violated for the moment; the rows are whole in the end.
var writes = []string{
	`INSERT INTO app.fee VALUES (10, 11, 2)`,
	`INSERT INTO app.loan VALUES (11, 2, 30, 12), (120, 2, 30, NULL), (130, 1, 30, NULL)`,
	`INSERT INTO app.loan_2_low VALUES (12, 2, 30, NULL)`,
	`INSERT INTO "we ird"."bo""ok" VALUES (20, 30, 30, 30, 21)`,
	`INSERT INTO "we ird"."bo""ok" VALUES (21, 30, 1, NULL, NULL)`,
	`DELETE FROM app.author WHERE id = 1`,
	`UPDATE app.author SET id = 3 WHERE id = 2`,
	`INSERT INTO app.author VALUES (30, 'x')`,
	`INSERT INTO app.author VALUES (1, 'a'), (2, 'c')`,
	`TRUNCATE TABLE app.emptied`,
	`DELETE FROM app.loan WHERE id = 1`,
	`INSERT INTO app.loan_1 (id, region, author) VALUES (1, 1, 1)`,
	`INSERT INTO app.ruled VALUES (1)`,
	`INSERT INTO app.numbered (id, other, "Third") VALUES (50, 50, 50)`,
	`UPDATE app.numbered SET id = 60, "Third" = 60 WHERE id = 50`,
	`INSERT INTO app.secret VALUES (1)`,
	`UPDATE app.secret SET id = 2`,
	`INSERT INTO app.dated VALUES (1, now() + interval '1 hour')`,
	`INSERT INTO app.dated VALUES (1, '2001-01-01')`,
	`INSERT INTO app.dated_child VALUES (1, now() + interval '1 hour', 1)`,
	`INSERT INTO app.dated_plain_child VALUES (1, now() + interval '1 hour')`,
	`INSERT INTO app.event VALUES (1, now() + interval '1 hour')`,
}

// whole takes back what of the writes the constraints refuse that are validated in the end.
const whole = `UPDATE app.dated SET at = '2001-01-01'; UPDATE app.event SET at = '2001-01-01'`

func TestNothingReactsToWhatIsWritten(t *testing.T) {
	t.Parallel()
	for _, w := range []who{owner, superuser, grantee} {
		t.Run(string(w), func(t *testing.T) {
			t.Parallel()
			s := newSide(t, w)
			conn := pgtest.Conn(t, s.writer, pg.WithParam("row_security", "off"))
			require.ErrorIs(t, passive.Enter(t.Context(), conn), passive.ErrNotPassive)
			makePassive(t, conn, config)

			if w == owner {
				require.Equal(t, "0 0", pgtest.Value(t, conn, `SELECT concat_ws(' ', (SELECT count(*) FROM pg_trigger t LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
						WHERE t.tgenabled <> 'D' AND t.tgname <> 'zz_crossfade_fence' AND k.contype IS DISTINCT FROM 'u'),
					(SELECT count(*) FROM pg_rewrite WHERE ev_enabled <> 'D' AND ev_class = 'app.ruled'::regclass))`), "whatever the mode is that it is enabled for")
			}
			applier := pgtest.Conn(t, s.writer, pg.WithParam("row_security", "off"))
			require.NoError(t, passive.Enter(t.Context(), applier))
			for _, sql := range writes {
				require.NoError(t, pg.Exec(t.Context(), applier, sql), sql)
			}
			require.Empty(t, pgtest.Value(t, conn, `SELECT string_agg(what, ', ') FROM app.fired`))
			require.Equal(t, "2", pgtest.Value(t, conn, `SELECT count(*) FROM "we ird"."bo""ok" WHERE id < 10 AND author = id`), "nothing cascaded")
			require.Equal(t, "2", pgtest.Value(t, conn, `SELECT count(*) FROM app.fee WHERE id < 10`), "nothing cascaded")
			pgtest.Exec(t, applier, whole)

			decide(t, conn)
			finish(t, conn)
			require.ErrorIs(t, passive.Enter(t.Context(), conn), passive.ErrNotPassive)
			application := pgtest.Conn(t, s.owner)
			for sql, code := range map[string]string{
				`INSERT INTO app.loan VALUES (77, 2, 777, NULL)`:           pg.CodeForeignKeyViolation,
				`INSERT INTO app.fee VALUES (77, 77, 1)`:                   pg.CodeForeignKeyViolation,
				`INSERT INTO app.numbered (id) VALUES (77)`:                "428C9",
				`INSERT INTO app.dated VALUES (1, now() + '1 hour')`:       "23514",
				`INSERT INTO app.event VALUES (1, now() + '1 hour')`:       "23514",
				`SET row_security = on; INSERT INTO app.secret VALUES (1)`: pg.CodeInsufficientPrivilege,
			} {
				require.Equal(t, code, pg.Code(pg.Exec(t.Context(), application, sql)), sql)
			}
			pgtest.Exec(t, application, `INSERT INTO app.author VALUES (90, 'z'); INSERT INTO app.ruled VALUES (2); INSERT INTO app.loan VALUES (90, 2, 90, NULL)`)
			require.Equal(t, "author t_a, author t_deferred, author t_deferred_a, author t_o, loan t_root, loan_2_low t_tree, loan_2_low t_tree_a, loan_2_low t_tree_deferred, r_a, r_o",
				pgtest.Value(t, conn, `SELECT string_agg(what, ', ' ORDER BY what COLLATE "C") FROM app.fired`))
		})
	}
}
