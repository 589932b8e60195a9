package restore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/archive"
)

func TestConstraintIsAnIndexAndWhatUsesIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, kind, sql, index, rest string }{
		{"key", "CONSTRAINT", "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a, b);\n",
			"CREATE UNIQUE INDEX t_pkey ON s.t (a, b)", "ALTER TABLE ONLY s.t ADD CONSTRAINT t_pkey PRIMARY KEY USING INDEX t_pkey"},
		{"all that pg_dump writes", "CONSTRAINT", `ALTER TABLE ONLY "S ""x"."T;"
    ADD CONSTRAINT "c ;)" UNIQUE NULLS NOT DISTINCT ("a (", b) INCLUDE (c) WITH (fillfactor='70') DEFERRABLE INITIALLY DEFERRED;

ALTER TABLE "S ""x"."T;" CLUSTER ON "c ;)";

ALTER TABLE ONLY "S ""x"."T;" REPLICA IDENTITY USING INDEX "c ;)";
`, `CREATE UNIQUE INDEX "c ;)" ON "S ""x"."T;" ("a (", b) INCLUDE (c) NULLS NOT DISTINCT WITH (fillfactor='70')`,
			`ALTER TABLE ONLY "S ""x"."T;" ADD CONSTRAINT "c ;)" UNIQUE USING INDEX "c ;)" DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE "S ""x"."T;" CLUSTER ON "c ;)";

ALTER TABLE ONLY "S ""x"."T;" REPLICA IDENTITY USING INDEX "c ;)";`},
		{"index with a setting", "INDEX", "CREATE INDEX i ON s.t USING btree (a);\n\nALTER INDEX s.i ALTER COLUMN 1 SET STATISTICS 50;\n",
			"CREATE INDEX i ON s.t USING btree (a)", "ALTER INDEX s.i ALTER COLUMN 1 SET STATISTICS 50;"},
		{"plain index", "INDEX", "CREATE INDEX i ON s.t USING btree (a);\n", "CREATE INDEX i ON s.t USING btree (a)", ""},
		{"exclusion", "CONSTRAINT", "ALTER TABLE ONLY s.t ADD CONSTRAINT c EXCLUDE USING gist (a WITH &&);", "", ""},
		{"period", "CONSTRAINT", "ALTER TABLE ONLY s.t ADD CONSTRAINT c PRIMARY KEY (id, valid_at WITHOUT OVERLAPS);", "", ""},
		{"what is not known", "CONSTRAINT", "ALTER TABLE ONLY s.t ADD CONSTRAINT c UNIQUE (a) SOMEHOW;", "", ""},
		{"table of an odd name", "CONSTRAINT", "ALTER TABLE ONLY s.add ADD CONSTRAINT c UNIQUE (a);", "", ""},
		{"partitioned", "CONSTRAINT", "ALTER TABLE s.t ADD CONSTRAINT c UNIQUE (a);", "", ""},
		{"check", "CHECK CONSTRAINT", "ALTER TABLE ONLY s.t ADD CONSTRAINT c CHECK (a > 0);", "", ""},
	} {
		p, ok := partIndex(&archive.Entry{Kind: c.kind, Definition: c.sql})
		require.Equal(t, c.index != "", ok, c.name)
		if ok {
			require.Equal(t, parted{c.index, c.rest}, p, c.name)
		}
	}
}

func TestBudgetIsNeverExceeded(t *testing.T) {
	t.Parallel()
	b := &budget{each: 64, total: 256}
	alone, ok := b.grant(1000, 0)
	require.True(t, ok)
	require.EqualValues(t, 128, alone, "half of all for one that is alone")
	for range 2 {
		n, ok := b.grant(1000, 0)
		require.True(t, ok)
		require.EqualValues(t, 64, n)
	}
	_, ok = b.grant(1000, 0)
	require.False(t, ok)
	_, ok = b.grant(1, 0)
	require.False(t, ok, "not even a little more than all")
	b.release(alone)
	n, ok := b.grant(10, 0)
	require.True(t, ok)
	require.EqualValues(t, 10, n)
	b.release(10 + 2*64)
	first, _ := b.grant(1000, 3)
	require.EqualValues(t, 64, first, "four at once get the same")
	require.Empty(t, b.setting(64))
	require.Equal(t, "SET LOCAL maintenance_work_mem = '2048kB';\n", (&budget{each: 1}).setting(2<<20))
}
