package schema

import (
	"context"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster/pgtest"
)

func TestRestoreGoesOnAfterItsSessionWasKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.loadObjects(t)
	plan, _ := p.plan(t)

	// The server ends our session in the middle of the last batch.
	require.Greater(t, len(plan.PreData), batchEntries)
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(p.target.Database()))
	pgtest.Exec(t, admin, `CREATE FUNCTION public.die() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF (SELECT pg_catalog.count(*) FROM crossfade.item) >= 64 THEN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); END IF; END $$;
		CREATE EVENT TRIGGER die ON ddl_command_end WHEN TAG IN ('GRANT') EXECUTE FUNCTION public.die()`)
	conn := pgtest.Conn(t, p.target)
	first, err := plan.Restore(t.Context(), PreData, RestoreConfig{Conns: conns(t, p, 1), Rewrite: Rewrite{Roles: p.roles}, Log: zerolog.Nop()})
	require.ErrorContains(t, err, "57P01", "the cause is told, not what followed from it")
	pgtest.Exec(t, admin, `DROP EVENT TRIGGER die; DROP FUNCTION public.die()`)

	done := pgtest.Value(t, conn, `SELECT count(*) FROM crossfade.item`)
	require.Equal(t, strconv.Itoa(batchEntries), done, "what came before is recorded")
	require.Equal(t, batchEntries, first.Done)

	second := p.restore(t, plan, PreData, 1)
	require.Equal(t, batchEntries, second.Already)
	require.Equal(t, len(plan.PreData), second.Already+second.Done)
	third := p.restore(t, plan, PreData, 1)
	require.Equal(t, len(plan.PreData), third.Already)

	p.restore(t, plan, AfterCopy, 2)
	p.noDriftBut(t, FingerprintOptions{Deferred: true, Checks: plan.LateChecks()}, "column app.customer / id")
}

// noDriftBut allows for one kind of object that the test has not restored.
func (p *pair) noDriftBut(t *testing.T, opts FingerprintOptions, but string) {
	t.Helper()
	a, err := TakeFingerprint(t.Context(), pgtest.Conn(t, p.source), opts)
	require.NoError(t, err)
	b, err := TakeFingerprint(t.Context(), pgtest.Conn(t, p.target), opts)
	require.NoError(t, err)
	for _, d := range Drift(a, b) {
		require.Equal(t, but, d.Kind+" "+d.Name, d.String())
	}
}

func conns(t *testing.T, p *pair, n int) (out []*pgx.Conn) {
	t.Helper()
	for range n {
		out = append(out, pgtest.Conn(t, p.target))
	}
	return out
}

func TestRestoreStopsAtARefusalAndGoesOn(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.loadObjects(t)
	plan, _ := p.plan(t)
	p.restore(t, plan, PreData, 1)
	conn := pgtest.Conn(t, p.target)
	pgtest.Exec(t, conn, `CREATE INDEX customer_seen ON app.customer (id)`) // in the way
	cfg := RestoreConfig{Conns: conns(t, p, 3), Rewrite: Rewrite{Roles: p.roles}, Log: zerolog.Nop()}
	_, err := plan.Restore(t.Context(), AfterCopy, cfg)
	var refused *RestoreError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "INDEX", refused.Finding.Kind)
	require.Equal(t, "customer_seen", refused.Finding.Name)
	require.Equal(t, pg.CodeDuplicateTable, refused.Finding.SQLSTATE)
	require.False(t, refused.Finding.Harmless)
	require.Equal(t, "public", pgtest.Value(t, cfg.Conns[0], `SELECT current_setting('search_path')`), "the session is as before")

	pgtest.Exec(t, conn, `DROP INDEX app.customer_seen`)
	report := p.restore(t, plan, AfterCopy, 3)
	require.Equal(t, len(plan.AfterCopy), report.Done+report.Already)
}

func TestRestoreOfOneTable(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.loadObjects(t)
	plan, db := p.plan(t)
	p.restore(t, plan, PreData, 1)
	customer := db.Lookup(pg.Name{Schema: "app", Name: "customer"})
	require.NotNil(t, customer)
	report, err := plan.Restore(t.Context(), AfterCopy, RestoreConfig{Conns: conns(t, p, 2), Rewrite: Rewrite{Roles: p.roles}, Log: zerolog.Nop(),
		Only: func(e *Entry) bool { return plan.Table(e) == customer.OID }})
	require.NoError(t, err)
	require.Positive(t, report.Done)
	conn := pgtest.Conn(t, p.target)
	require.Equal(t, "4", pgtest.Value(t, conn, `SELECT count(*) FROM pg_index WHERE indrelid = 'app.customer'::regclass`))
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_index WHERE indrelid = 'app."Order"'::regclass`))

	// The indexes of a partition wait for those of the root.
	leaf := db.Lookup(pg.Name{Schema: "app", Name: "event_2024"})
	report, err = plan.Restore(t.Context(), AfterCopy, RestoreConfig{Conns: conns(t, p, 1), Rewrite: Rewrite{Roles: p.roles}, Log: zerolog.Nop(),
		Only: func(e *Entry) bool { return e.Kind == "INDEX ATTACH" && plan.Table(e) == leaf.OID }})
	require.NoError(t, err)
	require.Zero(t, report.Done)
	require.Positive(t, report.Waiting)
	p.restore(t, plan, AfterCopy, 2)
}

func TestRestoreNamesHarmlessFindings(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	admin := pgtest.Conn(t, p.admin)
	pgtest.Exec(t, admin, `CREATE FUNCTION public.seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
		CREATE EVENT TRIGGER seen ON sql_drop EXECUTE FUNCTION public.seen();
		COMMENT ON EVENT TRIGGER seen IS 'x'; CREATE SCHEMA there; CREATE PUBLICATION pub`)
	plan, db := p.plan(t)
	require.Equal(t, []string{"pub"}, db.Publications)
	pgtest.Exec(t, pgtest.Conn(t, p.target), `CREATE SCHEMA there`)
	report := p.restore(t, plan, PreData, 1)
	require.Len(t, report.Findings, 1)
	require.Equal(t, "SCHEMA there", report.Findings[0].Kind+" "+report.Findings[0].Name)
	report = p.restore(t, plan, Last, 1)
	require.Len(t, report.Findings, 2)
	require.Equal(t, "EVENT TRIGGER 42501", report.Findings[0].Kind+" "+report.Findings[0].SQLSTATE)
	require.Equal(t, "COMMENT 42704", report.Findings[1].Kind+" "+report.Findings[1].SQLSTATE, "it goes with the event trigger")
	require.Equal(t, 3, p.restore(t, plan, Last, 1).Already, "the owner of the event trigger is an entry too")
}

func TestRestoreMissingRole(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	pgtest.Exec(t, pgtest.Conn(t, p.source), `CREATE TABLE public.t (); GRANT SELECT ON public.t TO `+p.reader)
	plan, _ := p.plan(t)
	cfg := RestoreConfig{Conns: conns(t, p, 1), Rewrite: Rewrite{Roles: map[string]string{p.source.User(): p.target.User()}}, Log: zerolog.Nop()}
	_, err := plan.Restore(t.Context(), PreData, cfg)
	require.ErrorContains(t, err, p.reader)
	cfg.SkipMissingRoles = true
	report, err := plan.Restore(t.Context(), PreData, cfg)
	require.NoError(t, err)
	require.Len(t, report.Findings, 1)
	require.Equal(t, pg.CodeUndefinedObject, report.Findings[0].SQLSTATE)
}

func TestArchiveHoldsNothingOfOurs(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	conn := pgtest.Conn(t, p.source)
	pgtest.Exec(t, conn, journal.SourceDDL+`CREATE TABLE public.t (id integer PRIMARY KEY);
		CREATE TRIGGER zz_crossfade_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON public.t FOR EACH STATEMENT EXECUTE FUNCTION crossfade.fence();
		ALTER TABLE public.t ENABLE ALWAYS TRIGGER zz_crossfade_fence; CREATE PUBLICATION crossfade`)
	plan, db := p.plan(t)
	for _, part := range []Part{PreData, AfterCopy, Decision, Last} {
		for _, e := range plan.Entries(part) {
			require.NotContains(t, e.Definition, "crossfade")
		}
	}
	require.Empty(t, db.Triggers)
	require.Empty(t, db.Publications)
	require.NotContains(t, db.Schemas, "crossfade")
	f, err := TakeFingerprint(context.Background(), conn, FingerprintOptions{})
	require.NoError(t, err)
	require.NotContains(t, f.String(), "crossfade")
	require.Contains(t, f.String(), "table public.t:")
}
