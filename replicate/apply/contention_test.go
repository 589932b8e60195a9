package apply_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

// Whatever the follower writes, a lock that it waits for is told with the process that waits and
// since when, until it has it.
func TestALockThatIsWaitedForIsTold(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		held, do string
	}{
		"a table":     {held: "LOCK TABLE p IN ACCESS EXCLUSIVE MODE", do: "INSERT INTO p VALUES (1, 'a')"},
		"a row":       {held: "UPDATE p SET v = 'theirs' WHERE id = 0", do: "UPDATE p SET v = 'b' WHERE id = 0"},
		"our journal": {held: "LOCK TABLE crossfade.progress IN SHARE MODE", do: "SELECT pg_logical_emit_message(true, 'other', 'x')"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "CREATE TABLE p (id int PRIMARY KEY, v text)", "INSERT INTO p VALUES (0, 'x')")
			r := w.follow(func(c *apply.Config) { c.LockTimeout = 50 * time.Millisecond })
			w.drain(r)
			require.Nil(t, r.Status().Contended)
			holder := pgtest.Conn(t, w.target, pg.WithKey("k"))
			begun := time.Now() // what writes the journal by itself may wait at once
			pgtest.Exec(t, holder, "BEGIN; "+x.held)
			w.do(x.do)
			require.Eventually(t, func() bool { return r.Status().Contended != nil }, pgtest.Timeout, time.Millisecond)
			c := *r.Status().Contended
			require.True(t, pg.IsCode(c.Err, pg.CodeLockNotAvailable))
			require.WithinRange(t, c.Since, begun, time.Now())
			require.Eventually(t, func() bool { // between two tries it waits for nobody
				return pgtest.Value(t, w.dst, "SELECT $2 = ANY (pg_catalog.pg_blocking_pids($1))", c.PID, int32(holder.PgConn().PID())) == "true"
			}, pgtest.Timeout, time.Millisecond)
			pgtest.Exec(t, holder, "ROLLBACK")
			w.drain(r)
			require.Eventually(t, func() bool { return r.Status().Contended == nil }, pgtest.Timeout, time.Millisecond)
		})
	}
}
