package database

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestEncodings(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, Encodings))

	c := pgtest.Shared(t, pgtest.Target)
	other := f.TargetDSN.Database() + "_latin"
	pgtest.DatabaseAs(t, c, other, f.TargetDSN.User(), "ENCODING 'LATIN1' LOCALE 'C'")
	f.TargetDSN = f.TargetDSN.WithDatabase(other)
	found := f.Ask(t, Encodings)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "encoding_differs", "target"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "UTF8")
	require.Contains(t, found[0].Detail, "LATIN1")
}

func TestCollations(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, `CREATE TABLE word (id int PRIMARY KEY, w text COLLATE "POSIX")`)
	require.Empty(t, f.Ask(t, Collations))

	pgtest.Exec(t, f.TargetAdmin, `SET allow_system_table_mods = on; DELETE FROM pg_collation WHERE collname = 'POSIX'`)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "collation_missing", "public.word"}}, preflighttest.Short(f.Ask(t, Collations)))

	pgtest.Exec(t, f.TargetAdmin, `UPDATE pg_database SET datcollate = 'C.UTF-8' WHERE datname = current_database()`)
	require.Contains(t, preflighttest.Short(f.Ask(t, Collations)), preflighttest.Seen{answer.Warning, "collation_differs", "target"})
}

func TestEncodingsThatACopyConverts(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	f.Encoded(t, "LATIN1")
	pgtest.Exec(t, f.Source, "CREATE TABLE word (w text); INSERT INTO word VALUES ('Grün'), ('"+" ÿ"+"')")
	found := f.Ask(t, Encodings, preflighttest.CopyMode)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "encoding_converted", "source"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "LATIN1")
	found = f.Ask(t, Encodings)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "encoding_differs", "target"}}, preflighttest.Short(found), "a run compares bytes")
	require.Contains(t, found[0].Remedy, "crossfade copy")
}

func TestBytesThatAreNoCharactersAreNamedWithTheirRow(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	f.Encoded(t, "SQL_ASCII")
	pgtest.Exec(t, f.Source, `CREATE TABLE word (id int PRIMARY KEY, w text, x int); INSERT INTO word SELECT n, 'plain', 1 FROM generate_series(1, 300) n;
		CREATE TABLE keyless (a text[]); CREATE TABLE left_out (w text)`)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "encoding_converted", "source"}}, preflighttest.Short(f.Ask(t, Encodings, preflighttest.CopyMode)), "whose bytes are valid")
	pgtest.Exec(t, f.Source, `UPDATE word SET w = convert_from('\x477266fc6e', 'SQL_ASCII') WHERE id IN (7, 200);
		INSERT INTO keyless VALUES (ARRAY['a', convert_from('\xe9', 'SQL_ASCII')]); INSERT INTO left_out VALUES (convert_from('\xe9', 'SQL_ASCII'))`)
	taken := func(o *inquiry.Options) {
		o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Relations: preflighttest.OIDs(t, f.Source, "public.word", "public.keyless", "public.left_out"), WithoutRows: preflighttest.OIDs(t, f.Source, "public.left_out")}
	}
	found := f.Ask(t, Encodings, taken)
	require.ElementsMatch(t, []preflighttest.Seen{{answer.Warning, "encoding_converted", "source"}, {answer.Blocker, "encoding_invalid", "public.word"}, {answer.Blocker, "encoding_invalid", "public.keyless"}}, preflighttest.Short(found))
	for range 2 {
		for _, x := range f.Ask(t, Encodings, taken) {
			switch x.Object {
			case "public.word":
				require.Contains(t, x.Detail, "key (", "it is named by its key")
				require.Contains(t, x.Detail, "column w")
				f.Typed(t, x)
			case "public.keyless":
				require.Contains(t, x.Detail, "ctid (0,1), column a")
				pgtest.Exec(t, f.Source, "DELETE FROM keyless")
			}
		}
	}
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "encoding_converted", "source"}}, preflighttest.Short(f.Ask(t, Encodings, taken)), "the remedy helps, a row at a time")
	require.Equal(t, "2", pgtest.Value(t, f.Source, `SELECT count(*) FROM word WHERE convert_to(w, 'SQL_ASCII') = '\x477266c3bc6e'`))
}

func TestNamesOfLocalesAndCollations(t *testing.T) {
	t.Parallel()
	of := func(collate string) databaseLocale {
		return databaseLocale{Encoding: unicode, Collate: collate, Ctype: collate, Provider: libc}
	}
	require.True(t, of("en_US.UTF-8").sortsAs(of("en_US.utf8")), "one locale has several names")
	require.True(t, of("C").sortsAs(of("POSIX")))
	require.False(t, of("C.UTF-8").sortsAs(of("en_US.UTF-8")))
	german, english := databaseLocale{Collate: "C", Ctype: "C", Provider: "i", Locale: "de"}, databaseLocale{Collate: "C", Ctype: "C", Provider: "i", Locale: "en"}
	require.False(t, german.sortsAs(english), "with ICU it is not the operating system's that counts")
	require.Equal(t, "de of ICU", german.sorts())
	require.Contains(t, anotherDatabase(german, english), "LOCALE_PROVIDER icu ICU_LOCALE 'de'")

	both := map[string]bool{"de-AT-x-icu": true, "en-x-icu": true, "und-x-icu": true}
	for collation, instead := range map[string]string{"de_AT.utf8": "de-AT-x-icu", "en_GB": "en-x-icu", "xx_YY": "und-x-icu", "POSIX": "C"} {
		require.Equal(t, instead, standIn(collation, both), collation)
	}
	require.Equal(t, "C", standIn("de_DE", nil))
}
