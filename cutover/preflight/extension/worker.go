package extension

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// acting are extensions whose rows or background workers act by themselves: what acts, and what to
// do about it in a migration.
var acting = map[string]struct{ what, remedy string }{
	"pg_partman": {"makes and drops partitions when its background worker, or a job, runs its maintenance: DDL, which no stream carries, and on the target a worker that this server's settings name",
		"take the database out of pg_partman_bgw.dbname, and keep others from calling run_maintenance, until the cutover; then set pg_partman_bgw.dbname on the target (Neon: schedule run_maintenance with pg_cron there)"},
	"timescaledb": {"has jobs (policies, continuous aggregates) that its scheduler runs on either side as soon as their rows are there, and tables whose chunks it makes by itself",
		"on the source before the run: SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE job_id >= 1000; on the target after the switch the same with true"},
	"pgmq":        {"has queues whose messages change all the time", "let the queues run empty before the cutover"},
	"pgagent":     {"has jobs that a daemon runs in each database that it is connected to", "on the target until the switch: UPDATE pgagent.pga_job SET jobenabled = false; and stop the source's daemon for this database then"},
	"pg_net":      {"has a background worker that sends the requests of its queue: one that is copied would be sent twice", "let the queue run empty before the run begins and before the cutover"},
	"pg_squeeze":  {"has a background worker that rewrites tables at their time", "SELECT squeeze.stop_worker() until the cutover"},
	"pglogical":   {"has background workers for its subscriptions", "end the subscriptions before the cutover; they are not carried over"},
	"pgq":         {"has queues, and a ticker that is connected to the database", "connect the ticker to the target after the switch; events in queues are rows of the extension"},
	"citus":       {"has a maintenance daemon, and tables whose rows are elsewhere", "a distributed table cannot be moved so; on the source first: SELECT undistribute_table(logicalrelid) FROM pg_dist_partition"},
	"pg_dbms_job": {"has jobs that a daemon runs", "stop the daemon for this database at the cutover, and connect it to the target then"},
	"pg_task":     {"has tasks that its background worker runs", "disable it for the target's database until the switch, and for the source's then"},
}

// ownWorkers are the background processes of PostgreSQL itself.
var ownWorkers = []string{"client backend", "walsender", "autovacuum worker", "autovacuum launcher", "parallel worker", "logical replication worker", "logical replication launcher",
	"logical replication apply worker", "logical replication tablesync worker", "logical replication parallel worker", "slotsync worker", "background worker", "startup", "walreceiver"}

// Workers names what acts in the source's database by itself: none of its sessions comes through
// the proxy, and its tasks are kept in rows or settings.
func Workers(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	extensions, err := inquiry.Column[string](ctx, p.Source, "extensions", `SELECT extname::text FROM pg_extension ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, e := range extensions {
		a, ok := acting[e]
		if e == "pg_cron" {
			jobs, err := cronJobs(ctx, p)
			if err != nil {
				return nil, err
			}
			found = append(found, jobs...)
		}
		if ok && !(e == "pgmq" && p.Options.Mode == inquiry.Run) { // each queue is reported below
			found = append(found, answer.Finding{Code: "extension_acts", Severity: answer.Warning, Object: e, Detail: a.what, Remedy: a.remedy})
		}
	}
	elsewhere, err := cronElsewhere(ctx, p)
	if err != nil {
		return nil, err
	}
	found = append(found, elsewhere...)
	if p.Options.Mode == inquiry.Run {
		queues, err := inquiry.List[struct{ Schema, Name, Extension string }](ctx, p.Source, "queues", `
			SELECT n.nspname::text, c.relname::text, e.extname::text FROM pg_extension e
			JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass
			JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE e.extname IN ('pgmq', 'pgq') AND c.relkind IN ('r', 'p') AND (c.relname LIKE 'q\_%' OR c.relname LIKE 'event\_%') ORDER BY 1, 2`)
		if err != nil {
			return nil, err
		}
		for _, q := range queues {
			n := pg.Name{Schema: q.Schema, Name: q.Name}
			found = append(found, answer.Finding{Code: "queue_not_followed", Severity: answer.Blocker, Object: n.Display(),
				Detail: "is a queue that belongs to an extension, so that no publication may hold it: messages that are sent between copy and cutover would be lost, and messages that were read would come again",
				Remedy: fmt.Sprintf("let it run empty and drop it, or take it out of the extension so that it is followed: ALTER EXTENSION %s DROP TABLE %s on the source", pg.QuoteIdent(q.Extension), n)})
		}
	}
	workers, err := inquiry.List[struct {
		Kind string
		N    int
	}](ctx, p.Source, "background workers", `
		SELECT backend_type, count(*)::int FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type <> ALL (coalesce($1::text[], '{}')) GROUP BY 1 ORDER BY 1`, ownWorkers)
	if err != nil {
		return nil, err
	}
	cron := slices.Contains(extensions, "pg_cron")
	for _, w := range workers {
		if cron && strings.HasPrefix(w.Kind, "pg_cron") {
			continue
		}
		found = append(found, answer.Finding{Code: "background_worker", Severity: answer.Warning, Object: w.Kind,
			Detail: fmt.Sprintf("%d background workers of this kind are connected to the source's database: they do not come through the proxy, and stay on the source", w.N),
			Remedy: "see what it does: what it writes after the fence is refused, and what it is to do on the target has to be set there"})
	}
	return found, nil
}

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
			Detail: "jobs of pg_cron arrive inactive and change sides with the cutover; the role of --source may not see all of them, or may not suspend them, so that they stay on the source, or run on both sides after the switch",
			Remedy: "on the source: " + answer.OneLine(sql) + "; or suspend the jobs yourself during the cutover"})
	}
	var database string
	if database, err = inquiry.Setting(ctx, p.Target, "cron.database_name"); err != nil && !pg.IsCode(err, pg.CodeInsufficientPrivilege) {
		return nil, err
	}
	here, err := inquiry.Value[string](ctx, p.Target, "the target's database", `SELECT current_database()::text`)
	if err != nil {
		return nil, err
	}
	if database != "" && database != here {
		found = append(found, answer.Finding{Code: "pg_cron_database", Severity: answer.Blocker, Object: "cron.database_name",
			Detail: fmt.Sprintf("the target's pg_cron can be made in database %s only, and the migration goes to %s", database, here),
			Remedy: fmt.Sprintf("ALTER SYSTEM SET cron.database_name = %s on the target, then restart it (Neon: through the settings of the compute)", pg.QuoteLiteral(here)),
			On:     answer.Target, SQL: "ALTER SYSTEM SET cron.database_name = " + pg.QuoteLiteral(here)})
	}
	return found, nil
}

// cronElsewhere names jobs that another database keeps for this one.
func cronElsewhere(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	database, err := inquiry.Setting(ctx, p.Source, "cron.database_name")
	if err != nil && !pg.IsCode(err, pg.CodeInsufficientPrivilege) {
		return nil, err
	}
	here, err := inquiry.Value[string](ctx, p.Source, "the source's database", `SELECT current_database()::text`)
	if err != nil || database == "" || strings.EqualFold(database, here) {
		return nil, err
	}
	jobs, err := jobsFor(ctx, p, database, here)
	if err != nil || jobs == 0 {
		return nil, err
	}
	detail := fmt.Sprintf("pg_cron of the source's server keeps its jobs in database %s, where --source may not read them: those for this one are not taken along, and run on after the switch", database)
	if jobs > 0 {
		detail = fmt.Sprintf("pg_cron of the source's server keeps its jobs in database %s, and %d of them are for this one: they are not taken along, and run on after the switch", database, jobs)
	}
	return []answer.Finding{{Code: "jobs_elsewhere", Severity: answer.Warning, Object: "cron.database_name", Detail: detail,
		Remedy: fmt.Sprintf("schedule on the target after the switch what cron.job has for database %s; and at the cutover, in database %s of the source's server: SELECT cron.unschedule(jobid) FROM cron.job WHERE database = %s",
			here, database, pg.QuoteLiteral(here))}}, nil
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
	may, err := inquiry.Column[bool](ctx, conn, "rights on jobs of pg_cron", `
		SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'cron' AND c.relname = 'job'`)
	switch {
	case err != nil:
		return 0, err
	case len(may) == 0:
		return 0, nil // no pg_cron was made there
	case !may[0]:
		return unknownJobs, nil
	}
	return inquiry.Value[int](ctx, conn, "jobs of pg_cron", `SELECT count(*)::int FROM cron.job WHERE database = $1`, moved)
}
