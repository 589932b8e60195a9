package restore_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
	"crossfade/schema/fingerprint"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

func TestRestoreGoesOnAfterItsSessionWasKilled(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	planned, _ := p.Plan(t)

	// The server ends our session in the middle of the last batch.
	require.Greater(t, len(planned.PreData), restore.BatchEntries)
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(p.Target.Database()))
	pgtest.Exec(t, admin, `CREATE FUNCTION public.die() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF (SELECT pg_catalog.count(*) FROM crossfade.item) >= 64 THEN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); END IF; END $$;
		CREATE EVENT TRIGGER die ON ddl_command_end WHEN TAG IN ('GRANT') EXECUTE FUNCTION public.die()`)
	conn := pgtest.Conn(t, p.Target)
	first, err := restore.Restore(t.Context(), planned, plan.PreData, restore.Config{Conns: pairtest.Conns(t, p, 1), Rewrite: plan.Rewrite{Roles: p.Roles}, Log: zerolog.Nop()})
	require.ErrorContains(t, err, "57P01", "the cause is told, not what followed from it")
	pgtest.Exec(t, admin, `DROP EVENT TRIGGER die; DROP FUNCTION public.die()`)

	done := pgtest.Value(t, conn, `SELECT count(*) FROM crossfade.item`)
	require.Equal(t, strconv.Itoa(restore.BatchEntries), done, "what came before is recorded")
	require.Equal(t, restore.BatchEntries, first.Done)

	second := p.Restore(t, planned, plan.PreData, 1)
	require.Equal(t, restore.BatchEntries, second.Already)
	require.Equal(t, len(planned.PreData), second.Already+second.Done)
	third := p.Restore(t, planned, plan.PreData, 1)
	require.Equal(t, len(planned.PreData), third.Already)

	p.Restore(t, planned, plan.AfterCopy, 2)
	noDriftBut(t, p, fingerprint.Options{Deferred: true, Checks: planned.LateChecks()}, "column app.customer / id")
}

// noDriftBut allows for one kind of object that the test has not restored.
func noDriftBut(t *testing.T, p *pairtest.Pair, opts fingerprint.Options, but string) {
	t.Helper()
	a, err := fingerprint.Take(t.Context(), pgtest.Conn(t, p.Source), opts)
	require.NoError(t, err)
	b, err := fingerprint.Take(t.Context(), pgtest.Conn(t, p.Target), opts)
	require.NoError(t, err)
	for _, d := range fingerprint.Drift(a, b) {
		require.Equal(t, but, d.Kind+" "+d.Name, d.String())
	}
}

func TestRestoreStopsAtARefusalAndGoesOn(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	planned, _ := p.Plan(t)
	p.Restore(t, planned, plan.PreData, 1)
	conn := pgtest.Conn(t, p.Target)
	pgtest.Exec(t, conn, `CREATE INDEX customer_seen ON app.customer (id)`) // in the way
	cfg := restore.Config{Conns: pairtest.Conns(t, p, 3), Rewrite: plan.Rewrite{Roles: p.Roles}, Log: zerolog.Nop()}
	_, err := restore.Restore(t.Context(), planned, plan.AfterCopy, cfg)
	var refused *restore.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "INDEX", refused.Finding.Kind)
	require.Equal(t, "customer_seen", refused.Finding.Name)
	require.Equal(t, pg.CodeDuplicateTable, refused.Finding.SQLSTATE)
	require.False(t, refused.Finding.Harmless)
	require.Equal(t, "public", pgtest.Value(t, cfg.Conns[0], `SELECT current_setting('search_path')`), "the session is as before")

	pgtest.Exec(t, conn, `DROP INDEX app.customer_seen`)
	report := p.Restore(t, planned, plan.AfterCopy, 3)
	require.Equal(t, len(planned.AfterCopy), report.Done+report.Already)
}

func TestRestoreOfOneTable(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	planned, db := p.Plan(t)
	p.Restore(t, planned, plan.PreData, 1)
	customer := db.Lookup(pg.Name{Schema: "app", Name: "customer"})
	require.NotNil(t, customer)
	report, err := restore.Restore(t.Context(), planned, plan.AfterCopy, restore.Config{Conns: pairtest.Conns(t, p, 2), Rewrite: plan.Rewrite{Roles: p.Roles}, Log: zerolog.Nop(),
		Only: func(e *archive.Entry) bool { return planned.Table(e) == customer.OID }})
	require.NoError(t, err)
	require.Positive(t, report.Done)
	conn := pgtest.Conn(t, p.Target)
	require.Equal(t, "4", pgtest.Value(t, conn, `SELECT count(*) FROM pg_index WHERE indrelid = 'app.customer'::regclass`))
	require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_index WHERE indrelid = 'app."Order"'::regclass`))

	// The indexes of a partition wait for those of the root.
	leaf := db.Lookup(pg.Name{Schema: "app", Name: "event_2024"})
	report, err = restore.Restore(t.Context(), planned, plan.AfterCopy, restore.Config{Conns: pairtest.Conns(t, p, 1), Rewrite: plan.Rewrite{Roles: p.Roles}, Log: zerolog.Nop(),
		Only: func(e *archive.Entry) bool { return e.Kind == "INDEX ATTACH" && planned.Table(e) == leaf.OID }})
	require.NoError(t, err)
	require.Zero(t, report.Done)
	require.Positive(t, report.Waiting)
	p.Restore(t, planned, plan.AfterCopy, 2)
}

func TestRestoreNamesHarmlessFindings(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	admin := pgtest.Conn(t, p.Admin)
	pgtest.Exec(t, admin, `CREATE FUNCTION public.seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
		CREATE EVENT TRIGGER seen ON sql_drop EXECUTE FUNCTION public.seen();
		COMMENT ON EVENT TRIGGER seen IS 'x'; CREATE SCHEMA there; CREATE PUBLICATION pub`)
	planned, db := p.Plan(t)
	require.Equal(t, []string{"pub"}, db.Publications)
	pgtest.Exec(t, pgtest.Conn(t, p.Target), `CREATE SCHEMA there`)
	report := p.Restore(t, planned, plan.PreData, 1)
	require.Len(t, report.Findings, 1)
	require.Equal(t, "SCHEMA there", report.Findings[0].Kind+" "+report.Findings[0].Name)
	report = p.Restore(t, planned, plan.Last, 1)
	require.Len(t, report.Findings, 2)
	require.Equal(t, "EVENT TRIGGER 42501", report.Findings[0].Kind+" "+report.Findings[0].SQLSTATE)
	require.Equal(t, "COMMENT 42704", report.Findings[1].Kind+" "+report.Findings[1].SQLSTATE, "it goes with the event trigger")
	require.Equal(t, 4, p.Restore(t, planned, plan.Last, 1).Already, "the owner of the event trigger and the rights of the database are entries too")
}

func TestRestoreMissingRole(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	pgtest.Exec(t, pgtest.Conn(t, p.Source), `CREATE TABLE public.t (); GRANT SELECT ON public.t TO `+p.Reader)
	planned, _ := p.Plan(t)
	cfg := restore.Config{Conns: pairtest.Conns(t, p, 1), Rewrite: plan.Rewrite{Roles: map[string]string{p.Source.User(): p.Target.User()}}, Log: zerolog.Nop()}
	_, err := restore.Restore(t.Context(), planned, plan.PreData, cfg)
	require.ErrorContains(t, err, p.Reader)
	cfg.SkipMissingRoles = true
	report, err := restore.Restore(t.Context(), planned, plan.PreData, cfg)
	require.NoError(t, err)
	require.Len(t, report.Findings, 1)
	require.Equal(t, pg.CodeUndefinedObject, report.Findings[0].SQLSTATE)
}

func TestArchiveHoldsNothingOfOurs(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	conn := pgtest.Conn(t, p.Source)
	pgtest.Exec(t, conn, journal.SourceDDL+`CREATE TABLE public.t (id integer PRIMARY KEY);
		CREATE TRIGGER zz_crossfade_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON public.t FOR EACH STATEMENT EXECUTE FUNCTION crossfade.fence();
		ALTER TABLE public.t ENABLE ALWAYS TRIGGER zz_crossfade_fence; CREATE PUBLICATION crossfade`)
	planned, db := p.Plan(t)
	for _, part := range []plan.Part{plan.PreData, plan.AfterCopy, plan.Decision, plan.Last} {
		for _, e := range planned.Entries(part) {
			require.NotContains(t, e.Definition, "crossfade")
		}
	}
	require.Empty(t, db.Triggers)
	require.Empty(t, db.Publications)
	require.NotContains(t, db.Schemas, "crossfade")
	f, err := fingerprint.Take(context.Background(), conn, fingerprint.Options{})
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(f), "crossfade")
	require.True(t, slices.ContainsFunc(f.Objects, func(o fingerprint.Object) bool { return o.Kind == "table" && o.Name == "public.t" }))
}
