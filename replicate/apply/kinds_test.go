package apply_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const people = `CREATE TABLE people (id int PRIMARY KEY, name text, mail text UNIQUE, note text)`
const fillPeople = `INSERT INTO people SELECT i, 'n' || i, 'm' || i, repeat('x', i) FROM generate_series(1, 20) i`

func TestInsertUpdateDelete(t *testing.T) {
	r := check(t, people, fillPeople, `
		INSERT INTO people VALUES (100, 'a', 'b', NULL), (101, '', NULL, E'quote '' " \\ {a,b} NULL\n');
		UPDATE people SET name = 'new' WHERE id < 10;
		UPDATE people SET note = NULL WHERE id = 11;
		DELETE FROM people WHERE id IN (5, 15);`, "people")
	require.Zero(t, r.Status().Replays)
}

func TestTruncate(t *testing.T) {
	check(t, people+`; CREATE TABLE other (id serial PRIMARY KEY)`, fillPeople+`; INSERT INTO other DEFAULT VALUES`, `
		BEGIN; INSERT INTO people VALUES (500, 'gone', 'gone', ''); TRUNCATE people, other RESTART IDENTITY;
		INSERT INTO people VALUES (501, 'stays', 'stays', ''); COMMIT;
		INSERT INTO other DEFAULT VALUES`, "people", "other")
}

func TestToastUnchanged(t *testing.T) {
	check(t, `CREATE TABLE big (id int PRIMARY KEY, n int, doc text); ALTER TABLE big ALTER doc SET STORAGE EXTERNAL`,
		`INSERT INTO big SELECT i, 0, repeat('0123456789', 5000) || i FROM generate_series(1, 5) i`, `
		UPDATE big SET n = 1 WHERE id = 1;
		UPDATE big SET n = 1, doc = 'short' WHERE id = 2;
		BEGIN; UPDATE big SET doc = repeat('abc', 5000) WHERE id = 3; UPDATE big SET n = 3 WHERE id = 3; COMMIT;
		UPDATE big SET id = 40 WHERE id = 4;
		BEGIN; UPDATE big SET n = 7 WHERE id = 5; UPDATE big SET id = 50 WHERE id = 5; UPDATE big SET n = 8 WHERE id = 50; COMMIT;`, "big")
}

func TestToastedKeyIsSentApart(t *testing.T) {
	check(t, `CREATE TABLE k (id text PRIMARY KEY, n int); ALTER TABLE k ALTER id SET STORAGE EXTERNAL`,
		`INSERT INTO k VALUES (repeat('k', 2500), 1)`, `UPDATE k SET n = 2`, "k")
}

func TestSwapOfUniqueValues(t *testing.T) {
	r := check(t, people, fillPeople, `BEGIN;
		UPDATE people SET mail = 'tmp' WHERE id = 1; UPDATE people SET mail = 'm1' WHERE id = 2;
		UPDATE people SET mail = 'm2' WHERE id = 1; COMMIT`, "people")
	require.NotZero(t, r.Status().Replays, "a set-based update cannot swap")
}

func TestDeferredUniqueSwap(t *testing.T) {
	check(t, `CREATE TABLE d (id int PRIMARY KEY, pos int, UNIQUE (pos) DEFERRABLE)`, `INSERT INTO d VALUES (1, 1), (2, 2), (3, 3)`,
		`BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE d SET pos = 2 WHERE id = 1; UPDATE d SET pos = 1 WHERE id = 2; COMMIT`, "d")
}

func TestDeleteAndInsertOfTheSameUniqueValue(t *testing.T) {
	r := check(t, people, fillPeople, `BEGIN; DELETE FROM people WHERE id = 3; INSERT INTO people VALUES (33, 'x', 'm3', '');
		UPDATE people SET mail = 'free' WHERE id = 4; INSERT INTO people VALUES (44, 'y', 'm4', ''); COMMIT`, "people")
	require.Zero(t, r.Status().Replays)
}

func TestChainsOfChangesOfOneRow(t *testing.T) {
	check(t, people, fillPeople, `
		BEGIN; DELETE FROM people WHERE id = 1; INSERT INTO people VALUES (1, 'again', 'again', ''); UPDATE people SET name = 'then' WHERE id = 1; COMMIT;
		BEGIN; DELETE FROM people WHERE id = 2; INSERT INTO people VALUES (2, 'again', 'm2', ''); DELETE FROM people WHERE id = 2; COMMIT;
		BEGIN; INSERT INTO people VALUES (200, 'a', 'x', ''); DELETE FROM people WHERE id = 200; COMMIT;
		BEGIN; INSERT INTO people VALUES (201, 'a', 'x', ''); UPDATE people SET id = 202, note = 'moved' WHERE id = 201; COMMIT;
		BEGIN; UPDATE people SET id = 300 WHERE id = 6; INSERT INTO people VALUES (6, 'new six', 'six', ''); COMMIT;
		BEGIN; UPDATE people SET name = 'a' WHERE id = 7; UPDATE people SET note = 'b' WHERE id = 7; DELETE FROM people WHERE id = 7; COMMIT;`, "people")
}

func TestSubtransactionAborts(t *testing.T) {
	check(t, people, fillPeople, `BEGIN; UPDATE people SET name = 'kept' WHERE id = 1; SAVEPOINT a; DELETE FROM people WHERE id = 1;
		ROLLBACK TO a; SAVEPOINT b; INSERT INTO people VALUES (77, 'b', 'b', ''); RELEASE b; COMMIT;
		BEGIN; DELETE FROM people; ROLLBACK`, "people")
}

func TestPartitionRowMovement(t *testing.T) {
	check(t, `CREATE TABLE p (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a'); CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b')`,
		`INSERT INTO p SELECT i, 'a', i FROM generate_series(1, 10) i`,
		`UPDATE p SET region = 'b' WHERE id % 2 = 0; UPDATE p SET v = -1 WHERE id < 5; TRUNCATE p_b; INSERT INTO p VALUES (50, 'b', 1)`, "p_a", "p_b")
}

func TestInheritanceTouchesOnlyItsOwnRows(t *testing.T) {
	check(t, `CREATE TABLE par (id int PRIMARY KEY, v int); CREATE TABLE chi (PRIMARY KEY (id)) INHERITS (par)`,
		`INSERT INTO par VALUES (1, 1), (2, 2); INSERT INTO chi VALUES (1, 10), (2, 20)`,
		`UPDATE ONLY par SET v = 5 WHERE id = 1; DELETE FROM ONLY par WHERE id = 2; UPDATE chi SET v = 11 WHERE id = 1; TRUNCATE ONLY par; INSERT INTO par VALUES (9, 9)`,
		"par", "chi")
}

func TestQuotedNames(t *testing.T) {
	check(t, `CREATE SCHEMA "Sch ""é"; CREATE TABLE "Sch ""é"."Ta ' $1" ("Key ""x" int PRIMARY KEY, "select" text, "a;b" int)`,
		`INSERT INTO "Sch ""é"."Ta ' $1" VALUES (1, 'a', 1)`,
		`UPDATE "Sch ""é"."Ta ' $1" SET "select" = 'b'; INSERT INTO "Sch ""é"."Ta ' $1" VALUES (2, 'c', 2); UPDATE "Sch ""é"."Ta ' $1" SET "Key ""x" = 3 WHERE "a;b" = 2`,
		`"Sch ""é"."Ta ' $1"`)
}
