package apply_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

const propertyTables = `
	CREATE TABLE a (id int PRIMARY KEY, u int UNIQUE, v text, big text); ALTER TABLE a ALTER big SET STORAGE EXTERNAL;
	CREATE TABLE f (x int, y text, z float8); ALTER TABLE f REPLICA IDENTITY FULL;
	CREATE TABLE n (id numeric, k text, v int, PRIMARY KEY (id, k));
	CREATE TABLE p (id int, r int, v text, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
	CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1, 2);
	CREATE TABLE q (id int PRIMARY KEY, v text, big text); ALTER TABLE q REPLICA IDENTITY FULL; ALTER TABLE q ALTER big SET STORAGE EXTERNAL`

const propertyReset = `TRUNCATE a, f, n, p, q;
	INSERT INTO a SELECT i, i, 'v' || i, repeat('0123456789', 400) || i FROM generate_series(1, 4) i;
	INSERT INTO f SELECT i % 2, NULL, 0.5 FROM generate_series(1, 4) i; INSERT INTO n VALUES (1.0, 'a', 1), (2, 'b', 2);
	INSERT INTO p SELECT i, i % 3, 'v' FROM generate_series(1, 4) i; INSERT INTO q SELECT i, 'v', repeat('abcdefghij', 400) FROM generate_series(1, 3) i`

// drawStatement draws one statement, with keys so few that statements meet.
func drawStatement(rt *rapid.T) string {
	k := func() int { return rapid.IntRange(0, 6).Draw(rt, "k") }
	s := func() string {
		return rapid.SampledFrom([]string{"NULL", "''", "'a'", "'é\"\\{}'", "'NULL'"}).Draw(rt, "s")
	}
	num := func() string {
		return rapid.SampledFrom([]string{"1", "1.0", "1.00", "2", "2.50", "2.5"}).Draw(rt, "num")
	}
	switch rapid.IntRange(0, 23).Draw(rt, "statement") {
	case 0, 1:
		return fmt.Sprintf("INSERT INTO a VALUES (%d, %d, %s, repeat('z', %d))", k(), k(), s(), 1000*k())
	case 2, 3:
		return fmt.Sprintf("UPDATE a SET v = %s WHERE id >= %d", s(), k())
	case 4:
		return fmt.Sprintf("UPDATE a SET u = %d WHERE id = %d", k(), k())
	case 5:
		return fmt.Sprintf("UPDATE a SET id = %d WHERE id = %d", k(), k())
	case 6:
		return fmt.Sprintf("UPDATE a SET id = id + 10, u = u - 1 WHERE id = %d", k())
	case 7:
		return fmt.Sprintf("DELETE FROM a WHERE id = %d", k())
	case 8:
		return fmt.Sprintf("UPDATE a SET big = repeat('y', %d), u = NULL WHERE id = %d", 500*k(), k())
	case 9:
		return fmt.Sprintf("INSERT INTO f VALUES (%d, %s, %s)", k(), s(), num())
	case 10:
		return fmt.Sprintf("UPDATE f SET y = %s WHERE x = %d", s(), k())
	case 11:
		return fmt.Sprintf("DELETE FROM f WHERE ctid = (SELECT min(ctid) FROM f WHERE x = %d)", k())
	case 12:
		return fmt.Sprintf("UPDATE f SET x = NULL, z = 'NaN' WHERE y IS NULL AND x < %d", k())
	case 13, 14:
		return fmt.Sprintf("INSERT INTO n VALUES (%s, 'k%d', %d)", num(), k()%2, k())
	case 15:
		return fmt.Sprintf("UPDATE n SET id = %s, v = v + 1 WHERE id = %s", num(), num())
	case 16:
		return fmt.Sprintf("DELETE FROM n WHERE id = %s", num())
	case 17:
		return fmt.Sprintf("INSERT INTO p VALUES (%d, %d, %s)", k(), k()%3, s())
	case 18:
		return fmt.Sprintf("UPDATE p SET r = %d WHERE id = %d", k()%3, k())
	case 19:
		return fmt.Sprintf("UPDATE p SET id = id + %d, v = %s WHERE r = %d", k(), s(), k()%3)
	case 20:
		return fmt.Sprintf("UPDATE q SET v = %s WHERE id = %d", s(), k())
	case 21:
		return fmt.Sprintf("UPDATE q SET id = %d WHERE id = %d", k(), k())
	case 22:
		return rapid.SampledFrom([]string{"TRUNCATE a", "TRUNCATE f, p0", "DELETE FROM q", "TRUNCATE n"}).Draw(rt, "truncate")
	default:
		return fmt.Sprintf("DELETE FROM p WHERE id = %d", k())
	}
}

// drawTransaction draws statements, some in savepoints that are rolled back.
func drawTransaction(rt *rapid.T) []string {
	var list []string
	for _, inSavepoint := range rapid.SliceOfN(rapid.Bool(), 1, 8).Draw(rt, "statements") {
		statement := drawStatement(rt)
		if inSavepoint && rapid.Bool().Draw(rt, "undone") {
			statement = "undo:" + statement
		}
		list = append(list, statement)
	}
	return list
}

// perform runs a transaction on the source; statements that fail are undone.
func (w *world) perform(list []string) {
	ctx := context.Background()
	w.do("BEGIN")
	for _, statement := range list {
		statement, undo := strings.CutPrefix(statement, "undo:")
		w.do("SAVEPOINT s")
		if _, err := w.src.Exec(ctx, statement); err != nil || undo {
			w.do("ROLLBACK TO s")
		}
	}
	w.do("COMMIT")
}

func TestAnyTransactionsMakeBothSidesEqual(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*apply.Config){
		"batches": func(c *apply.Config) { c.BatchAge = 50_000_000 },
		"parts":   func(c *apply.Config) { c.Stream.PartBytes = 700 },
		"single":  func(c *apply.Config) { c.BatchRows = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, propertyTables, propertyReset)
			r := w.follow(change)
			rapid.Check(t, func(rt *rapid.T) {
				transactions := rapid.SliceOfN(rapid.Custom(drawTransaction), 1, 6).Draw(rt, "transactions")
				pgtest.Exec(t, w.src, propertyReset)
				for _, list := range transactions {
					w.perform(list)
				}
				w.drain(r)
				for _, table := range []string{"a", "f", "n", "p0", "p1", "q"} {
					require.Equal(rt, rows(t, w.src, table), rows(t, w.dst, table), table)
				}
			})
			t.Logf("%+v", r.Status())
		})
	}
}
