package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/extension"
	"crossfade/schema/finding"
)

// askJobs is a watcher's question, which puts the target's jobs right as well: what was
// scheduled on the source since is there too, inactive, before it can be decided.
func (m *migration) askJobs(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
	r, err := extension.SyncJobs(ctx, source, target, m.roles)
	var taken *extension.TakenError
	if err != nil && !errors.As(err, &taken) {
		return nil, err
	}
	var found []watch.Notice
	tell := func(warns bool, code, detail, remedy string) {
		found = append(found, watch.Notice{Warns: warns, Blocker: control.Blocker{Code: code, Detail: detail, Remedy: remedy}})
	}
	if err := wakeJobs(ctx, source); err != nil {
		tell(true, "jobs_rest", "jobs of pg_cron on the source still rest after an attempt that was taken back: "+err.Error(), endJobsHolder(ctx, source)+"; or wait: crossfade run tries again every second")
	}
	if taken != nil {
		tell(false, "jobs_taken", fmt.Sprintf("job %s of pg_cron cannot be made on the target, which has another job of its number, or of its name and role", taken.Job), "on the target: "+taken.SQL)
		return found, nil
	}
	readRights := "on the source: " + extension.ReadRights(source.Config().User)
	const byHand = " Or schedule those jobs on the target by hand after the switch"
	if r.Absent {
		tell(false, "jobs_without_pg_cron", fmt.Sprintf("%d jobs of pg_cron are scheduled on the source, and the target's database has no pg_cron", r.Scheduled),
			"have the target's server run pg_cron with cron.database_name set to the target's database, then on the target: CREATE EXTENSION pg_cron; or have the jobs no more, on the source: SELECT cron.unschedule(jobid) FROM cron.job WHERE database = pg_catalog.current_database()")
	}
	for _, j := range r.Roleless {
		role, verb, why := m.targetRole(j.Role), "CREATE", "which the target does not have"
		if j.Barred {
			verb, why = "ALTER", "which may not log in at the target"
		}
		tell(false, "job_role", "job "+j.String()+" of pg_cron runs as role "+role+", "+why+": the launcher of pg_cron would end with it, and every job",
			"on the target: "+verb+" ROLE "+pg.QuoteIdent(role)+" LOGIN; or have the job no more, on the source: SELECT cron.unschedule("+fmt.Sprint(j.ID)+")")
	}
	switch {
	case r.Unread:
		tell(true, "jobs_unseen", "the role of --source may not read the jobs of pg_cron: those of this database stay on the source and go on running there", readRights+byHand)
	case r.Blind:
		own := ""
		if r.Scheduled > 0 {
			own = fmt.Sprintf(", and its own %d go on running there after the switch", r.Scheduled)
		}
		tell(true, "jobs_unseen", "row security shows the role of --source its own jobs of pg_cron alone: jobs of other roles stay on the source"+own, readRights+byHand)
	case r.Unresting && r.Scheduled > 0:
		tell(true, "jobs_run_on", fmt.Sprintf("%d jobs of pg_cron go on running on the source after the switch, since the role of --source may not change them: what they write there the fence refuses, but nothing else that they do", r.Scheduled),
			readRights+" Or end them yourself after the switch, on the source: UPDATE cron.job SET active = false WHERE database = pg_catalog.current_database()")
	}
	if r.Unwritten {
		tell(false, "jobs_not_writable", fmt.Sprintf("%d jobs of pg_cron are scheduled on the source, and the role of --target may not write jobs", r.Scheduled),
			"on the target: "+extension.WriteRights(target.Config().User))
	}
	if len(r.Foreign) > 0 {
		names, off := make([]string, len(r.Foreign)), make([]string, len(r.Foreign))
		for i, j := range r.Foreign {
			names[i], off[i] = j.String(), fmt.Sprintf("cron.alter_job(%d, active := false)", j.ID)
		}
		tell(true, "target_jobs", "jobs of pg_cron that are not the source's are active in the target's database: "+strings.Join(names, ", "),
			"have them rest until the switch, on the target: SELECT "+strings.Join(off, ", "))
	}
	return found, nil
}

// targetRole is the role at the target that stands for one of the source.
func (m *migration) targetRole(name string) string {
	return cmp.Or(m.roles[name], name)
}

// holdsJobs finds a session that keeps rows of cron.job from being written.
func holdsJobs(ctx context.Context, source *pgx.Conn) (pid int32, who string, ok bool) {
	err := source.QueryRow(ctx, `SELECT a.pid, pg_catalog.concat_ws(' ', 'role', a.usename, nullif(a.application_name, ''))
		FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		WHERE l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
			AND n.nspname = 'cron' AND c.relname = 'job' AND l.granted AND l.mode <> 'AccessShareLock' AND l.pid <> pg_catalog.pg_backend_pid()
		ORDER BY a.xact_start LIMIT 1`).Scan(&pid, &who)
	return pid, who, err == nil
}

// jobsOnce has the jobs arrive on the target, inactive. Where nothing follows they stay so.
func (m *migration) jobsOnce(ctx context.Context) error {
	source, err := m.connectSource(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(source)
	target, err := m.connectTarget(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(target)
	r, err := extension.SyncJobs(ctx, source, target, m.roles)
	if err != nil || r.Scheduled == 0 || !m.oneShot() {
		return err
	}
	if r.Unwritten {
		m.note([]finding.Finding{{Kind: "JOB", Name: "pg_cron", Harmless: true, Message: fmt.Sprintf("%d jobs are left out: the role of --target may not write jobs", r.Scheduled),
			Remedy: "on the target: " + extension.WriteRights(target.Config().User) + " and schedule them there"}})
		return nil
	}
	m.note([]finding.Finding{{Kind: "JOB", Name: "pg_cron", Harmless: true,
		Message: fmt.Sprintf("%d of %d jobs are on the target, inactive, so that none runs on both sides", r.Scheduled-len(r.Roleless), r.Scheduled),
		Remedy:  "make them active when the target is in use: SELECT cron.alter_job(jobid, active := true) FROM cron.job"}})
	for _, j := range r.Roleless {
		role, verb := m.targetRole(j.Role), "CREATE"
		if j.Barred {
			verb = "ALTER"
		}
		m.note([]finding.Finding{{Kind: "JOB", Name: j.String(), Harmless: true, Message: "left out: the target has no role " + role + " that may log in",
			Remedy: "on the target: " + verb + " ROLE " + pg.QuoteIdent(role) + " LOGIN; then schedule the job there"}})
	}
	return nil
}

// wakeJobs lets the source's jobs run again where an attempt has had them rest and its fence is
// open again. The lock keeps the next attempt's fence from being closed meanwhile.
func wakeJobs(ctx context.Context, source *pgx.Conn) error {
	n, err := extension.Resting(ctx, source)
	if err != nil || n == 0 {
		return err
	}
	return pgx.BeginFunc(ctx, source, func(tx pgx.Tx) error {
		if err := pg.Exec(ctx, source, journal.SetLocalLockTimeout(wakeTimeout)+"LOCK TABLE crossfade.job IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		if shut, err := journal.FenceShut(ctx, source); err != nil || shut {
			return err
		}
		return pg.Exec(ctx, source, extension.WakeJobs)
	})
}

// endJobsHolder is what is done about a session that keeps jobs from being changed.
func endJobsHolder(ctx context.Context, source *pgx.Conn) string {
	const end = "end the session that holds rows of cron.job"
	if pid, who, ok := holdsJobs(ctx, source); ok {
		return fmt.Sprintf("%s (%s): on the source: SELECT pg_catalog.pg_terminate_backend(%d)", end, who, pid)
	}
	return end
}

// endRest lets the source's jobs run again, or says that they rest for good.
func endRest(ctx context.Context, source *pgx.Conn, decided bool, tell func(string)) error {
	n, err := extension.Resting(ctx, source)
	switch {
	case err != nil:
		return fmt.Errorf("look for jobs of pg_cron that rest: %w", err)
	case n == 0:
		return nil
	case decided:
		tell(fmt.Sprintf("source: the list of %d jobs of pg_cron that rest; they stay inactive", n))
		return nil
	}
	err = pgx.BeginFunc(ctx, source, func(pgx.Tx) error {
		return pg.Exec(ctx, source, journal.SetLocalLockTimeout(decisionLockTimeout)+extension.WakeJobs)
	})
	if err != nil {
		return fmt.Errorf("let the jobs of pg_cron run again: %w; %s; then run this again", err, endJobsHolder(ctx, source))
	}
	return nil
}
