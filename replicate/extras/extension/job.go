package extension

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Job is a job of pg_cron, of the source's database.
type Job struct {
	ID                int64
	Name              string // "" for none
	Schedule, Command string
	Node              string // "" for the server itself
	Port              int32
	Role              string // at the source
	Active            bool   // it was when the source's jobs were last let run
	Barred            bool   `db:"-"` // its role is at the target and may not log in there
}

// String names a job for an operator, without its command, which may hold a secret.
func (j Job) String() string {
	if j.Name == "" {
		return fmt.Sprintf("%d", j.ID)
	}
	return fmt.Sprintf("%d (%s)", j.ID, j.Name)
}

// Jobs is how the jobs of a database stand.
type Jobs struct {
	There     bool  // the source's database has pg_cron
	Scheduled int   // jobs of the source's database
	Absent    bool  // they are there, and the target has no pg_cron
	Roleless  []Job // whose role at the target is missing or may not log in: pg_cron's launcher would end with them
	Unread    bool  // the source's role may not read jobs
	Blind     bool  // the source's role sees its own jobs alone
	Unresting bool  // the source's role may not have its jobs rest
	Unwritten bool  // the target's role may not write jobs
	Foreign   []Job // active jobs of the target's database that are not the source's
}

// SyncJobs makes the jobs of the target's database those of the source's, none of them active, with
// roles as the map says; a role that is not in it keeps its name. It writes only where something
// differs, in one transaction of the target, and remembers in crossfade.job which of them
// ActivateJobs makes active. Jobs of the target that it did not make it leaves alone.
//
// A job is a row that means something: pg_cron runs it at once, and its launcher ends with
// an error where the role is missing, which ends every job of the server. So a job whose
// role is not there is not written, but named.
func SyncJobs(ctx context.Context, source, target *pgx.Conn, roles map[string]string) (Jobs, error) {
	var r Jobs
	wanted, err := r.read(ctx, source)
	if err == nil && r.There && !r.Unread {
		err = r.write(ctx, target, wanted, roles)
	}
	return r, pg.Wrap(err, "carry the jobs of pg_cron over")
}

// TakenError says that the target has another job of a job's number, or of its name and role.
type TakenError struct {
	Job   Job
	SQL   string // what removes the other one there
	cause error
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("job %s: the target has another job of its number, or of its name and role; %s there: %v", e.Job, e.SQL, e.cause)
}

func (e *TakenError) Unwrap() error { return e.cause }

// findJobs tells whether cron.job is there and whether this role may read it; name resolution
// alone would fail without USAGE on its schema, which pg_cron gives nobody.
const findJobs = `FROM (SELECT pg_catalog.to_regclass('crossfade.job') IS NOT NULL AS kept) k LEFT JOIN (
		SELECT c.oid AS job, pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS readable
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'cron' AND c.relname = 'job') j ON true`

// read returns the source's jobs.
func (r *Jobs) read(ctx context.Context, source *pgx.Conn) (jobs []Job, err error) {
	var kept, readable bool // kept is crossfade.job, where the fence has put them to rest
	err = source.QueryRow(ctx, `SELECT job IS NOT NULL, kept, coalesce(readable, false) `+findJobs).Scan(&r.There, &kept, &readable)
	if err != nil || !r.There {
		return nil, err
	}
	if !readable {
		r.Unread, r.Unresting = true, true
		return nil, nil
	}
	err = source.QueryRow(ctx, `SELECT pg_catalog.row_security_active(job), pg_catalog.row_security_active(job) OR NOT pg_catalog.has_table_privilege(job, 'UPDATE') `+findJobs).Scan(&r.Blind, &r.Unresting)
	if err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, source, func(tx pgx.Tx) error {
		if r.Blind { // else the server refuses
			if _, err := tx.Exec(ctx, `SET LOCAL row_security = on`); err != nil {
				return err
			}
		}
		jobs, err = readJobs(ctx, tx, kept)
		return err
	})
	r.Scheduled = len(jobs)
	return jobs, err
}

func readJobs(ctx context.Context, source pgx.Tx, kept bool) ([]Job, error) {
	active := "j.active"
	if kept {
		active = "j.active OR EXISTS (SELECT FROM crossfade.job r WHERE r.jobid = j.jobid)"
	}
	return pg.Rows(ctx, source, pgx.RowToStructByPos[Job], `SELECT j.jobid, coalesce(pg_catalog.to_jsonb(j) ->> 'jobname', ''), j.schedule, j.command,
			CASE WHEN j.nodename IN ('localhost', coalesce(`+cronHost+`, '')) AND j.nodeport = pg_catalog.current_setting('port')::pg_catalog.int4
				THEN '' ELSE j.nodename END,
			j.nodeport, j.username, `+active+`
		FROM cron.job j WHERE j.database = pg_catalog.current_database() ORDER BY 1`)
}

// write makes the target's jobs the wanted ones.
func (r *Jobs) write(ctx context.Context, target *pgx.Conn, wanted []Job, roles map[string]string) error {
	var there, kept, writable bool
	err := target.QueryRow(ctx, `SELECT job IS NOT NULL, kept, coalesce(readable AND pg_catalog.has_table_privilege(job, 'INSERT') AND pg_catalog.has_table_privilege(job, 'UPDATE')
		AND pg_catalog.has_table_privilege(job, 'DELETE') AND NOT pg_catalog.row_security_active(job), false) `+findJobs).Scan(&there, &kept, &writable)
	if err != nil {
		return err
	}
	if r.Absent = !there && len(wanted) > 0; !there || !kept {
		return nil
	}
	if !writable {
		r.Unwritten = len(wanted) > 0
		return nil
	}
	names := lists.Map(wanted, func(j Job) string { return cmp.Or(roles[j.Role], j.Role) })
	able, err := pg.SelectMap(ctx, target, func(role *string, login *bool) []any { return []any{role, login} },
		`SELECT rolname::text, rolcanlogin FROM pg_catalog.pg_roles WHERE rolname::text = ANY ($1)`, names)
	if err != nil {
		return err
	}
	var jobs []Job
	for i, j := range wanted {
		if login, known := able[names[i]]; !login {
			j.Barred = known
			r.Roleless = append(r.Roleless, j)
			continue
		}
		j.Role = names[i]
		jobs = append(jobs, j)
	}
	have, err := ours(ctx, target)
	if err == nil && !slices.Equal(have, jobs) {
		err = replace(ctx, target, jobs)
	}
	if err != nil {
		return err
	}
	r.Foreign, err = pg.Rows(ctx, target, pgx.RowToStructByPos[Job], `SELECT j.jobid, coalesce(pg_catalog.to_jsonb(j) ->> 'jobname', ''), '', '', '', 0, j.username, true
		FROM cron.job j WHERE j.active AND j.database = pg_catalog.current_database() AND NOT EXISTS (SELECT FROM crossfade.job r WHERE r.jobid = j.jobid) ORDER BY 1`)
	return err
}

// ours returns the jobs that an earlier call has written, as they are now. One that was
// changed by others, or is active, differs from every wanted one.
func ours(ctx context.Context, target *pgx.Conn) ([]Job, error) {
	return pg.Rows(ctx, target, pgx.RowToStructByPos[Job], `SELECT r.jobid, coalesce(pg_catalog.to_jsonb(j) ->> 'jobname', ''), coalesce(j.schedule, ''), coalesce(j.command, ''),
			CASE WHEN j.nodename = `+ownNode+` AND j.nodeport = `+ownPort+` THEN '' ELSE coalesce(j.nodename, '') END,
			coalesce(CASE WHEN j.nodename = `+ownNode+` AND j.nodeport = `+ownPort+` THEN r.port ELSE j.nodeport END, 0),
			CASE WHEN j.active OR j.database <> pg_catalog.current_database() THEN '' ELSE coalesce(j.username, '') END, r.active
		FROM crossfade.job r LEFT JOIN cron.job j ON j.jobid = r.jobid ORDER BY 1`)
}

// ownNode and ownPort are the address at which pg_cron runs a job of the server itself. Only roles
// that may read all settings may read the setting; the view does not show it to others.
const (
	cronHost = `(SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'cron.host')`
	ownNode  = `coalesce(nullif(` + cronHost + `, ''), 'localhost')`
	ownPort  = `pg_catalog.current_setting('port')::pg_catalog.int4`
)

// replace writes the jobs, all of them inactive.
func replace(ctx context.Context, target *pgx.Conn, jobs []Job) error {
	err := pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
		// The decision writes these rows too: who comes after it changes nothing.
		var decided bool
		if err := tx.QueryRow(ctx, `SELECT coalesce(bool_or(r.done), false) FROM (SELECT done FROM crossfade.job FOR UPDATE) r`).Scan(&decided); err != nil {
			return err
		}
		if decided {
			return errors.New("the target's jobs have been activated by a decision")
		}
		if _, err := tx.Exec(ctx, `DELETE FROM cron.job j WHERE EXISTS (SELECT FROM crossfade.job r WHERE r.jobid = j.jobid)`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.job`); err != nil {
			return err
		}
		for _, j := range jobs {
			_, err := tx.Exec(ctx, `INSERT INTO cron.job (jobid, jobname, schedule, command, nodename, nodeport, database, username, active)
				VALUES ($1, nullif($2, ''), $3, $4, CASE $5::pg_catalog.text WHEN '' THEN `+ownNode+` ELSE $5 END, CASE $5::pg_catalog.text WHEN '' THEN `+ownPort+` ELSE $6 END,
					pg_catalog.current_database(), $7, false)`, j.ID, j.Name, j.Schedule, j.Command, j.Node, j.Port, j.Role)
			if pg.IsCode(err, pg.CodeUniqueViolation) {
				return &TakenError{Job: j, SQL: fmt.Sprintf("SELECT cron.unschedule(jobid) FROM cron.job WHERE jobid = %d OR jobname = %s AND username = %s", j.ID, pg.QuoteLiteral(j.Name), pg.QuoteLiteral(j.Role)), cause: err}
			}
			if err == nil {
				_, err = tx.Exec(ctx, `INSERT INTO crossfade.job (jobid, active, port) VALUES ($1, $2, $3)`, j.ID, j.Active, j.Port)
			}
			if err != nil {
				return fmt.Errorf("job %s: %w", j, err)
			}
		}
		_, err := tx.Exec(ctx, `SELECT pg_catalog.setval('cron.jobid_seq', greatest((SELECT pg_catalog.max(j.jobid) FROM cron.job j), (SELECT s.last_value FROM cron.jobid_seq s)))`)
		return err
	})
	if pg.IsCode(err, pg.CodeInsufficientPrivilege) {
		return fmt.Errorf("%w: %s", err, WriteRights(target.Config().User))
	}
	return err
}

// ReadRights are the statements that let a role see and rest the jobs of every role at the source.
func ReadRights(role string) string {
	role = pg.QuoteIdent(role)
	return "GRANT USAGE ON SCHEMA cron TO " + role + "; GRANT SELECT, UPDATE ON cron.job TO " + role + "; ALTER ROLE " + role + " BYPASSRLS;"
}

// WriteRights are the statements that let a role write jobs at the target.
func WriteRights(role string) string {
	role = pg.QuoteIdent(role)
	return "GRANT USAGE ON SCHEMA cron TO " + role + "; GRANT SELECT, INSERT, UPDATE, DELETE ON cron.job TO " + role +
		"; GRANT SELECT, USAGE, UPDATE ON cron.jobid_seq TO " + role + "; ALTER ROLE " + role + " BYPASSRLS;"
}

// where is the start of a block that has cron.job's number in job, or NULL where this role may not
// read it.
const where = `DO $jobs$ DECLARE job oid := (SELECT CASE WHEN readable THEN job END ` + findJobs + `); BEGIN
	`

// ActivateJobs is part of the decision: the jobs that were active on the source become
// so on the target.
const ActivateJobs = where + `IF job IS NOT NULL AND EXISTS (SELECT FROM crossfade.job) THEN
		UPDATE cron.job j SET active = true FROM crossfade.job r WHERE r.jobid = j.jobid AND r.active AND NOT j.active;
		UPDATE crossfade.job SET done = true;
	END IF;
END $jobs$;`

// RestJobs is part of the fence: the jobs of the source's database rest from then on, as
// far as its role may have them rest, and crossfade.job knows which of them were active.
const RestJobs = where + `IF pg_catalog.has_table_privilege(job, 'UPDATE') AND NOT pg_catalog.row_security_active(job) THEN
		INSERT INTO crossfade.job (jobid, active)
			SELECT j.jobid, true FROM cron.job j WHERE j.active AND j.database = pg_catalog.current_database() ON CONFLICT DO NOTHING;
		UPDATE cron.job SET active = false WHERE active AND database = pg_catalog.current_database();
	END IF;
END $jobs$;`

// WakeJobs takes RestJobs back. Nothing of an application depends on it, so that it is no part of
// what opens the fence: who holds a row of cron.job would keep that shut.
const WakeJobs = where + `IF job IS NOT NULL AND EXISTS (SELECT FROM crossfade.job) THEN
		UPDATE cron.job j SET active = true FROM crossfade.job r WHERE r.jobid = j.jobid;
		DELETE FROM crossfade.job;
	END IF;
END $jobs$;`

// RemoveJobs removes from the target what SyncJobs has written, and returns how many
// jobs these were.
func RemoveJobs(ctx context.Context, target *pgx.Conn) (int64, error) {
	return jobs(ctx, target, `DELETE FROM cron.job j USING crossfade.job r WHERE r.jobid = j.jobid`)
}

// Resting returns how many jobs of the source the fence has put to rest.
func Resting(ctx context.Context, source *pgx.Conn) (int64, error) {
	return jobs(ctx, source, `SELECT FROM crossfade.job`)
}

// jobs runs a statement where both tables are there, and returns how many rows it met.
func jobs(ctx context.Context, conn *pgx.Conn, sql string) (int64, error) {
	var there bool
	err := conn.QueryRow(ctx, `SELECT kept AND coalesce(readable, false) `+findJobs).Scan(&there)
	if err == nil && there {
		tag, err := conn.Exec(ctx, sql)
		return tag.RowsAffected(), err
	}
	return 0, err
}
