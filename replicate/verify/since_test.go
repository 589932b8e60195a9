package verify

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// since is the fixture's comparison with snapshots that are taken now, where the sides
// were equal when seen was.
func (f *fixture) since(seen pg.Snapshot) Report {
	f.cfg.Since = &seen
	return f.run(f.freeze())
}

// seen is what the target sees now.
func (f *fixture) seen() pg.Snapshot {
	seen, err := pg.ParseSnapshot(pgtest.Value(f.t, f.target, "SELECT txid_current_snapshot()"))
	require.NoError(f.t, err)
	return seen
}

func TestRowsWrittenSinceAreToldFromRowsThatDiffered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after string // the sides were equal, or not, in between
		table         int
		want          Verdict
		says          string
		keys          []Difference
	}{
		"inserted since":       {"", "INSERT INTO public.keyed SELECT i, 'new', 'x', 0 FROM generate_series(1, 3000) i", 0, Equal, "", nil},
		"written to the same":  {"", "UPDATE public.keyed SET v = v WHERE id = 9", 0, Equal, "", nil},
		"changed since":        {"", "UPDATE public.keyed SET v = 'x' WHERE id BETWEEN 1 AND 4", 0, NotProvable, "of 20003 rows at the source 4 were changed at the target since the switch, and 0 are not there any more", nil},
		"deleted since":        {"", "DELETE FROM public.keyed WHERE id = 7", 0, NotProvable, "and 1 are not there any more", []Difference{{"(7,p)", "gone"}}},
		"truncated since":      {"", "TRUNCATE public.keyed", 0, NotProvable, "20003 are not there any more", nil},
		"dropped since":        {"", "DROP TABLE public.keyed", 0, NotProvable, "does not exist at the target any more", nil},
		"column dropped since": {"", "ALTER TABLE public.keyed DROP COLUMN v", 0, NotProvable, "", nil},
		"changed before":       {"UPDATE public.keyed SET v = 'x' WHERE id = 5", "", 0, Different, "1 rows of the target that nobody wrote since", []Difference{{"(5,p)", "changed"}}},
		"both":                 {"UPDATE public.keyed SET v = 'x' WHERE id = 5", "UPDATE public.keyed SET v = 'x' WHERE id = 6; DELETE FROM public.keyed WHERE id = 7", 0, Different, "1 rows", nil},
		"too much before":      {"INSERT INTO public.keyed VALUES (0, 'odd')", "UPDATE public.keyed SET v = 'x' WHERE id = 6", 0, Different, "1 rows", []Difference{{"(0,odd)", "extra"}}},
		"lost before":          {"DELETE FROM public.keyed WHERE id = 5", "", 0, NotProvable, "and 1 are not there any more", []Difference{{"(5,p)", "gone"}}},
		"keyless, since":       {"", "INSERT INTO public.keyless VALUES ('value 1'), ('new')", 1, Equal, "", nil},
		"keyless, deleted":     {"", "DELETE FROM public.keyless WHERE ctid = (SELECT min(ctid) FROM public.keyless)", 1, NotProvable, "and 1 are not there any more", nil},
		"keyless, before":      {"INSERT INTO public.keyless VALUES ('value 1')", "", 1, Different, "1 rows", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if c.before != "" {
				pgtest.Exec(t, f.target, c.before)
			}
			seen := f.seen()
			if c.after != "" {
				pgtest.Exec(t, f.target, c.after)
			}
			r := f.since(seen)
			for i, table := range r.Tables {
				want := Equal
				if i == c.table {
					want = c.want
				}
				require.Equal(t, want, table.Verdict, "%+v", table)
			}
			require.Contains(t, r.Tables[c.table].Reason, c.says)
			if c.keys != nil {
				require.Equal(t, c.keys, r.Tables[c.table].Keys)
			}
		})
	}
}

// A transaction that was open at the moment wrote since, though its number is old.
func TestATransactionThatWasOpenWroteSince(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	open := pgtest.Conn(t, f.to)
	pgtest.Exec(t, open, "BEGIN; CREATE TEMP TABLE mine ()")
	pgtest.Exec(t, f.target, "CREATE TABLE public.younger ()") // so that it is not the youngest
	seen := f.seen()
	require.NotEmpty(t, seen.Xip)
	pgtest.Exec(t, open, "UPDATE public.keyed SET v = 'x' WHERE id = 5; COMMIT")
	r := f.since(seen)
	require.Equal(t, NotProvable, r.Tables[0].Verdict, "%+v", r.Tables[0])
	require.Contains(t, r.Tables[0].Reason, "1 were changed")
}

func TestEachTableIsToldAsSoonAsItIsJudged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.Jobs = 1
	told := make(chan Result, len(f.cfg.Tables))
	f.cfg.Settled = func(r Result) { told <- r }
	r := f.run(f.freeze())
	close(told)
	var order []string
	for one := range told {
		require.Equal(t, Equal, one.Verdict)
		order = append(order, one.Name.Name)
	}
	require.Len(t, order, len(r.Tables))
	require.Equal(t, "keyed", order[len(order)-1], "the biggest comes last: what is known of the others is safe by then")
}
