package extension

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// cronJobs asks whether the jobs of pg_cron can be moved.
func cronJobs(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	// Without USAGE on the schema, which pg_cron grants to no role, the table's name means nothing.
	seen, err := inquiry.One[struct{ Rows, Update bool }](ctx, p.Source, "rights on jobs of pg_cron", `
		SELECT coalesce(bool_and(r.may AND NOT row_security_active(r.job)), false), coalesce(bool_and(r.may AND has_table_privilege(r.job, 'UPDATE')), false)
		FROM (SELECT c.oid AS job, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'cron' AND c.relname = 'job') r`)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	if !seen.Rows || p.Options.Mode == inquiry.Run && !seen.Update {
		role := pg.QuoteIdent(p.Source.Config().User)
		sql := "GRANT USAGE ON SCHEMA cron TO " + role + ";\nGRANT SELECT, UPDATE ON cron.job TO " + role + ";\nALTER ROLE " + role + " BYPASSRLS"
		found = append(found, answer.Finding{Code: "jobs_not_moved", Severity: answer.Warning, Object: "cron.job", On: answer.Source, SQL: sql,
			Detail: "jobs of pg_cron arrive inactive and change sides with the cutover; the role of --source may not see them all, or not have them rest, so that they stay on the source, or run on both sides after the switch",
			Remedy: "on the source: " + answer.OneLine(sql) + "; or have the jobs rest in the cutover yourself"})
	}
	var database string
	if database, err = inquiry.Setting(ctx, p.Target, "cron.database_name"); err != nil && !pg.IsCode(err, pg.CodeInsufficientPrivilege) {
		return nil, err
	}
	here, err := inquiry.One[struct{ Name string }](ctx, p.Target, "the target's database", `SELECT current_database()::text`)
	if err != nil {
		return nil, err
	}
	if database != "" && database != here.Name {
		found = append(found, answer.Finding{Code: "pg_cron_database", Severity: answer.Blocker, Object: "cron.database_name",
			Detail: fmt.Sprintf("the target's pg_cron can be made in database %s only, and the migration goes to %s", database, here.Name),
			Remedy: fmt.Sprintf("ALTER SYSTEM SET cron.database_name = %s on the target, then restart it (Neon: through the settings of the compute)", pg.QuoteLiteral(here.Name)),
			On:     answer.Target, SQL: "ALTER SYSTEM SET cron.database_name = " + pg.QuoteLiteral(here.Name)})
	}
	return found, nil
}

// cronElsewhere names jobs that another database keeps for this one.
func cronElsewhere(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	database, err := inquiry.Setting(ctx, p.Source, "cron.database_name")
	if err != nil && !pg.IsCode(err, pg.CodeInsufficientPrivilege) {
		return nil, err
	}
	here, err := inquiry.One[struct{ Name string }](ctx, p.Source, "the source's database", `SELECT current_database()::text`)
	if err != nil || database == "" || strings.EqualFold(database, here.Name) {
		return nil, err
	}
	jobs, err := jobsFor(ctx, p, database, here.Name)
	if err != nil || jobs == 0 {
		return nil, err
	}
	detail := fmt.Sprintf("pg_cron of the source's server keeps its jobs in database %s, where --source may not read them: those for this one are not taken along, and run on after the switch", database)
	if jobs > 0 {
		detail = fmt.Sprintf("pg_cron of the source's server keeps its jobs in database %s, and %d of them are for this one: they are not taken along, and run on after the switch", database, jobs)
	}
	return []answer.Finding{{Code: "jobs_elsewhere", Severity: answer.Warning, Object: "cron.database_name", Detail: detail,
		Remedy: fmt.Sprintf("schedule on the target after the switch what cron.job has for database %s; and at the cutover, in database %s of the source's server: SELECT cron.unschedule(jobid) FROM cron.job WHERE database = %s",
			here.Name, database, pg.QuoteLiteral(here.Name))}}, nil
}

// unknownJobs says that the jobs of another database cannot be read.
const unknownJobs = -1

// jobsFor counts the jobs that pg_cron keeps in another database of the source's server for the one
// that is moved.
func jobsFor(ctx context.Context, p *inquiry.Pair, database, moved string) (int, error) {
	config := p.Source.Config()
	config.Database = database
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return unknownJobs, ctx.Err() // we may not, or there is no such database
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	may, err := inquiry.List[struct{ Read bool }](ctx, conn, "rights on jobs of pg_cron", `
		SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'cron' AND c.relname = 'job'`)
	switch {
	case err != nil:
		return 0, err
	case len(may) == 0:
		return 0, nil // no pg_cron was made there
	case !may[0].Read:
		return unknownJobs, nil
	}
	jobs, err := inquiry.One[struct{ N int }](ctx, conn, "jobs of pg_cron", `SELECT count(*)::int FROM cron.job WHERE database = $1`, moved)
	return jobs.N, err
}
