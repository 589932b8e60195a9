package compare_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/compare"
	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// pair are two databases with the same content, on clusters that nobody else writes to: what other
// tests do on a cluster moves its transaction numbers, which lengthens the look whether somebody writes.
type pair struct {
	t        *testing.T
	from, to pg.DSN
	source   *pgx.Conn
	target   *pgx.Conn
}

func newPair(t *testing.T, ddl string) *pair {
	p := &pair{t: t, from: pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), to: pgtest.Database(t, pgtest.Shared(t, pgtest.Target))}
	p.source, p.target = pgtest.Conn(t, p.from), pgtest.Conn(t, p.to)
	for _, c := range []*pgx.Conn{p.source, p.target} {
		pgtest.Exec(t, c, ddl)
	}
	return p
}

// settle waits until the sessions of the fixture have told the counters what they have written.
func (p *pair) settle() {
	for _, c := range []**pgx.Conn{&p.source, &p.target} {
		dsn := p.from
		if c == &p.target {
			dsn = p.to
		}
		require.NoError(p.t, (*c).Close(p.t.Context()))
		*c = pgtest.Conn(p.t, dsn)
	}
}

func (p *pair) compare() (control.VerifyReport, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), pgtest.Timeout)
	defer cancel()
	return compare.AtRest(ctx, p.from, p.to, 2, func(control.Verify) {}, zerolog.Nop())
}

const million = `CREATE TABLE public.big (id int PRIMARY KEY, v text NOT NULL, f float8); INSERT INTO public.big SELECT i, md5(i::text), i / 7.0 FROM generate_series(1, 1000000) i;
	CREATE TABLE public.other (id bigserial PRIMARY KEY, v text); INSERT INTO public.other (v) SELECT 'v' || i FROM generate_series(1, 1000) i;
	CREATE SEQUENCE public.tickets; SELECT setval('public.tickets', 500);`

// One bit of one row of a million, a missing and an extra row, and a sequence that is behind are
// found and named, and nothing else is.
func TestWhatDiffersIsFoundInAMillionRows(t *testing.T) {
	t.Parallel()
	p := newPair(t, million)
	p.settle()
	r, err := p.compare()
	require.NoError(t, err)
	require.Equal(t, control.Equal, r.Outcome, "%+v", r)
	require.Equal(t, []int{2, 2}, []int{r.Tables, r.Sequences})
	require.Empty(t, r.Differences)

	pgtest.Exec(t, p.target, `UPDATE public.big SET v = overlay(v PLACING chr(ascii(v) # 1) FROM 1 FOR 1) WHERE id = 654321;
		DELETE FROM public.big WHERE id = 17; INSERT INTO public.big VALUES (1000001, 'new', 0); SELECT setval('public.tickets', 499)`)
	p.settle()
	r, err = p.compare()
	require.NoError(t, err)
	require.Equal(t, control.Different, r.Outcome)
	require.Equal(t, []control.VerifyDifference{
		{Kind: "table", Name: "public.big", Verdict: control.Different, Reason: "1000000 rows at the source, 1000000 at the target, with different content",
			Keys: []string{"extra (1000001)", "missing (17)", "changed (654321)"}},
		{Kind: "sequence", Name: "public.tickets", Verdict: control.Different, Reason: "the source is at 500 and the target at 499, which is behind"},
	}, r.Differences)
	require.Equal(t, 1, r.ExitCode())
}

// Definitions are compared too, and a table that is not there is named.
func TestDefinitionsAreCompared(t *testing.T) {
	t.Parallel()
	p := newPair(t, `CREATE TABLE public.t (id int PRIMARY KEY, v text); CREATE TABLE public.gone (id int PRIMARY KEY)`)
	pgtest.Exec(t, p.target, `CREATE INDEX late ON public.t (v); DROP TABLE public.gone`)
	p.settle()
	r, err := p.compare()
	require.NoError(t, err)
	names := map[string]string{}
	for _, d := range r.Differences {
		names[d.Kind+" "+d.Name] = d.Reason
	}
	require.Len(t, names, 3, "%+v", r.Differences)
	require.Equal(t, "the table does not exist at the target", names["table public.gone"])
	require.Contains(t, names, "definition index public.late")
	require.Contains(t, names, "definition table public.gone")
}

// A side that is written to is refused, with who writes.
func TestASideThatIsWrittenIsRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t, `CREATE TABLE public.t (id int PRIMARY KEY, v text)`)
	writer := pgtest.Conn(t, p.from)
	pgtest.Exec(t, writer, "SET application_name = 'shop'; BEGIN; INSERT INTO public.t VALUES (1, 'x')")
	_, err := p.compare()
	written := new(compare.WrittenError)
	require.ErrorAs(t, err, &written)
	require.ErrorContains(t, err, "the source is being written, by session ")
	require.ErrorContains(t, err, "application shop")
	require.ErrorContains(t, err, "stop what writes to it")
	pgtest.Exec(t, writer, "ROLLBACK")
	require.NoError(t, writer.Close(t.Context()))
	p.settle()
	_, err = p.compare()
	require.NoError(t, err)
}

// Two names of one database are refused.
func TestOneDatabaseIsNotComparedWithItself(t *testing.T) {
	t.Parallel()
	p := newPair(t, "")
	p.to = p.from
	_, err := p.compare()
	require.ErrorContains(t, err, "lead to one database")
}

// What is written while the rows are compared is not taken for a difference, and told.
func TestWhatIsWrittenMeanwhileIsNoDifference(t *testing.T) {
	t.Parallel()
	p := newPair(t, `CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1)`)
	p.settle()
	for side, conn := range map[string]pg.DSN{"source": p.from, "target": p.to} {
		err := compare.Meanwhile(t.Context(), p.source, p.target, func() {
			writer := pgtest.Conn(t, conn)
			pgtest.Exec(t, writer, "UPDATE public.t SET id = id + 1")
			require.NoError(t, writer.Close(t.Context())) // its counters are told now
		})
		written := new(compare.WrittenError)
		require.ErrorAs(t, err, &written)
		require.Equal(t, side, written.Side)
	}
	require.NoError(t, compare.Meanwhile(t.Context(), p.source, p.target, func() {}))
}
