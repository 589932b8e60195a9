package restore_test

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/fingerprint"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

const presentObjects = `CREATE SCHEMA there; CREATE EXTENSION pg_trgm SCHEMA there; CREATE TABLE there.p (id int, kind text, CONSTRAINT p_pk PRIMARY KEY (id) WITH (fillfactor = 80));
	CREATE TABLE there.t (id int, a int, "B" text, r int4range, CONSTRAINT t_pk PRIMARY KEY (id), CONSTRAINT t_a UNIQUE (a) INCLUDE ("B") DEFERRABLE INITIALLY DEFERRED,
		CONSTRAINT t_apart EXCLUDE USING gist (r WITH &&), CONSTRAINT t_p FOREIGN KEY (a) REFERENCES there.p (id) ON DELETE CASCADE, CONSTRAINT t_now CHECK (now() > '2020-01-01'));
	CREATE INDEX t_b ON there.t (lower("B") DESC, a) INCLUDE (id) WHERE a > 0; ALTER INDEX there.t_b ALTER COLUMN 1 SET STATISTICS 77; CREATE INDEX t_r ON there.t USING gist (r);
	CREATE DOMAIN there.d AS int CONSTRAINT d_now CHECK (VALUE > 0 AND now() > '2020-01-01');
	COMMENT ON INDEX there.t_b IS 'an index'; COMMENT ON CONSTRAINT t_a ON there.t IS 'a constraint';
	CREATE TABLE there.parts (id int) PARTITION BY RANGE (id); CREATE TABLE there.part PARTITION OF there.parts DEFAULT; CREATE INDEX parts_id ON there.parts (id)`

// What someone else has made on the target exactly as the source has it is no error, and is
// recorded with what belongs to it.
func TestWhatIsThereAsItShouldBeIsNoError(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	pgtest.Exec(t, pgtest.Conn(t, p.Source), presentObjects)
	planned, _ := p.Plan(t)
	target := pgtest.Conn(t, p.Target)
	pgtest.Exec(t, target, `CREATE SCHEMA there; CREATE EXTENSION pg_trgm SCHEMA there`)
	p.Restore(t, planned, plan.PreData, 1)
	pgtest.Exec(t, target, `ALTER TABLE there.p ADD CONSTRAINT p_pk PRIMARY KEY (id) WITH (fillfactor = 80); CREATE UNIQUE INDEX t_pk ON there.t (id); ALTER TABLE there.t ADD CONSTRAINT t_pk PRIMARY KEY USING INDEX t_pk,
		ADD CONSTRAINT t_a UNIQUE (a) INCLUDE ("B") DEFERRABLE INITIALLY DEFERRED, ADD CONSTRAINT t_apart EXCLUDE USING gist (r WITH &&);
		CREATE INDEX t_b ON there.t (lower("B") DESC, a) INCLUDE (id) WHERE a > 0; CREATE INDEX t_r ON there.t USING gist (r); COMMENT ON INDEX there.t_b IS 'an index';
		ALTER TABLE there.t ADD CONSTRAINT t_p FOREIGN KEY (a) REFERENCES there.p (id) ON DELETE CASCADE, ADD CONSTRAINT t_now CHECK (now() > '2020-01-01');
		ALTER DOMAIN there.d ADD CONSTRAINT d_now CHECK (VALUE > 0 AND now() > '2020-01-01'); CREATE INDEX parts_id ON ONLY there.parts (id)`)
	for _, part := range []plan.Part{plan.AfterCopy, plan.Decision, plan.Last} {
		report := p.Restore(t, planned, part, 2)
		require.Equal(t, len(planned.Entries(part)), report.Done, part)
	}
	require.Equal(t, "77", pgtest.Value(t, target, `SELECT attstattarget FROM pg_attribute WHERE attrelid = 'there.t_b'::regclass AND attnum = 1`), "what comes after the index is done")
	require.Equal(t, "a constraint", pgtest.Value(t, target, `SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 't_a'`))
	require.Equal(t, "true", pgtest.Value(t, target, `SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'there.parts_id'::regclass`))
	noDriftBut(t, p, fingerprint.Options{}, "")
}

// What is there in another way is refused with both, and with the statement that drops it.
func TestWhatIsThereOtherwiseIsRefusedWithTheDifference(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	pgtest.Exec(t, pgtest.Conn(t, p.Source), presentObjects)
	planned, _ := p.Plan(t)
	p.Restore(t, planned, plan.PreData, 1)
	target := pgtest.Conn(t, p.Target)
	pgtest.Exec(t, target, `ALTER TABLE there.p ADD CONSTRAINT other PRIMARY KEY (kind); CREATE UNIQUE INDEX t_pk ON there.t (id); ALTER TABLE there.t ADD CONSTRAINT t_a UNIQUE (a) INCLUDE ("B");
		ALTER TABLE there.t ADD CONSTRAINT t_apart EXCLUDE USING gist (r WITH =); CREATE INDEX t_b ON there.t (lower("B"), a) INCLUDE (id) WHERE a > 0; CREATE TABLE there.t_r ()`)
	says := map[string]string{"p p_pk": "PRIMARY KEY (kind)", "t t_pk": "CREATE UNIQUE INDEX t_pk", "t t_a": "UNIQUE (a)", "t t_apart": "EXCLUDE USING gist (r WITH =)", "t_b": `USING btree (lower("B"), a)`, "t_r": "something else"}
	report, err := restore.Restore(t.Context(), planned, plan.AfterCopy, restore.Config{Conns: pairtest.Conns(t, p, 1), Rewrite: plan.Rewrite{Roles: p.Roles}, Log: zerolog.Nop(), GoOn: true})
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, f := range report.Refused {
		want, ok := says[f.Name]
		if !ok {
			require.Contains(t, f.Message, "not tried")
			continue
		}
		seen[f.Name] = true
		require.Contains(t, f.Message, want)
		require.Contains(t, f.Message, "; wanted: ")
		drop, ok := strings.CutPrefix(f.Remedy, "on the target: ")
		require.True(t, ok, f.Remedy)
		pgtest.Exec(t, target, drop)
	}
	require.Len(t, seen, len(says), report.Refused)
	p.Restore(t, planned, plan.AfterCopy, 1)
}
