package workload

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/history"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// A session that lost a setting on the way is told from one that is whole.
func TestSeenNoticesALostSession(t *testing.T) {
	t.Parallel()
	sc := Shop{Accounts: 2}
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	require.NoError(t, sc.Setup(bounded(t), pgtest.Conn(t, dsn)))
	number := 0
	for _, d := range []Driver{CacheStatement, SimpleProtocol, PSQL} {
		for name, harm := range map[string]string{
			"":             "SELECT 1",
			"own setting":  "RESET " + ownSetting,
			"time zone":    "SET TimeZone = 'Europe/Berlin'",
			"search_path":  "SET search_path = shop, public",
			"ledger's row": "DELETE FROM shop.ledger",
			"row doubled":  "INSERT INTO shop.ledger (client, seq, kind, prev, side, ids) SELECT client, seq, kind, prev, side, ids FROM shop.ledger",
		} {
			t.Run(string(d)+" "+name, func(t *testing.T) {
				ctx := bounded(t)
				number++
				rec := &record{news: &news{}}
				c := newClient(Config{DSN: dsn, Scenario: sc, Clients: 1, FirstClient: number, Drivers: []Driver{d}, PSQL: psqlPath(t)}, 0, rec)
				require.NoError(t, c.connect(ctx))
				defer c.sess.close(ctx)
				c.do(ctx, c.steps[0])
				require.Equal(t, history.OK, rec.ops[0].Outcome, rec.errors)
				require.NoError(t, c.sess.exec(ctx, harm))
				c.do(ctx, step{kind: "seen", read: c.seen})
				if name == "" {
					require.Empty(t, rec.ops[1].Stale)
					return
				}
				require.Contains(t, rec.ops[1].Stale, "transaction 1 and the session")
				require.Equal(t, 1, rec.now().Errors())
			})
		}
	}
}
