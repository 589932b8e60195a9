package daemon

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/control"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/replicate/extension"
	"crossfade/schema"
)

// askJobs is a watcher's question, which puts the target's jobs right as well: what was
// scheduled on the source since is there too, inactive, before it can be decided.
func (m *migration) askJobs(ctx context.Context, source, target *pgx.Conn) ([]notice, error) {
	r, err := extension.SyncJobs(ctx, source, target, m.roles)
	if err != nil {
		return nil, err
	}
	var found []notice
	if err := wakeJobs(ctx, source); err != nil {
		found = append(found, notice{warns: true, Blocker: control.Blocker{Code: "jobs_rest", Detail: "jobs of pg_cron on the source still rest after an attempt that was taken back: " + err.Error(),
			Remedy: "end the session that holds rows of cron.job: crossfade run tries again every second"}})
	}
	tell := func(warns bool, code, detail, remedy string) {
		found = append(found, notice{warns: warns, Blocker: control.Blocker{Code: code, Detail: detail, Remedy: remedy}})
	}
	if r.Absent {
		tell(false, "jobs_without_pg_cron", fmt.Sprintf("%d jobs of pg_cron are scheduled on the source, and the target's database has no pg_cron", r.Scheduled),
			"set cron.database_name to the target's database and CREATE EXTENSION pg_cron there, or SELECT cron.unschedule(jobid) on the source")
	}
	for _, j := range r.Roleless {
		role := j.Role
		if to := m.roles[role]; to != "" {
			role = to
		}
		tell(false, "job_role", "job "+j.String()+" of pg_cron runs as role "+role+", which the target does not have or which may not log in there: the launcher of pg_cron would end with it, and every job",
			"CREATE ROLE "+pg.QuoteIdent(role)+" LOGIN on the target, or on the source SELECT cron.unschedule("+fmt.Sprint(j.ID)+")")
	}
	if r.Unread {
		tell(true, "jobs_unseen", "the role of --source may not read the jobs of pg_cron: those of this database stay on the source and go on running there",
			"on the source: "+extension.ReadRights(source.Config().User)+" Or schedule those jobs on the target by hand after the switch")
	}
	if r.Blind {
		tell(true, "jobs_unseen", "row security shows the role of --source its own jobs of pg_cron alone: jobs of other roles stay on the source",
			"on the source: "+extension.ReadRights(source.Config().User)+" Or schedule those jobs on the target by hand after the switch")
	}
	if r.Unwritten {
		tell(false, "jobs_not_writable", fmt.Sprintf("%d jobs of pg_cron are scheduled on the source, and the role of --target may not write jobs", r.Scheduled),
			"on the target: "+extension.WriteRights(target.Config().User))
	}
	if r.Unresting && r.Scheduled > 0 {
		tell(true, "jobs_run_on", fmt.Sprintf("%d jobs of pg_cron go on running on the source after the switch, since the role of --source may not change them: what they write there the fence refuses, but nothing else that they do", r.Scheduled),
			"on the source: "+extension.ReadRights(source.Config().User)+" Or UPDATE cron.job SET active = false yourself in the cutover")
	}
	if len(r.Foreign) > 0 {
		names := make([]string, len(r.Foreign))
		for i, j := range r.Foreign {
			names[i] = j.String()
		}
		tell(true, "target_jobs", "jobs of pg_cron that are not the source's are active in the target's database: "+strings.Join(names, ", "),
			"SELECT cron.alter_job(jobid, active := false) on the target until the switch")
	}
	return found, nil
}

// jobsOnce has the jobs arrive on the target, inactive. Where nothing follows they stay so.
func (m *migration) jobsOnce(ctx context.Context) error {
	source, err := m.connectSource(ctx)
	if err != nil {
		return err
	}
	defer closeNow(source)
	target, err := m.connectTarget(ctx)
	if err != nil {
		return err
	}
	defer closeNow(target)
	r, err := extension.SyncJobs(ctx, source, target, m.roles)
	if err != nil || r.Scheduled == 0 || !m.oneShot() {
		return err
	}
	if r.Unwritten {
		m.note([]schema.Finding{{Kind: "JOB", Name: "pg_cron", Harmless: true, Message: fmt.Sprintf("%d jobs are left out: the role of --target may not write jobs", r.Scheduled),
			Remedy: "on the target: " + extension.WriteRights(target.Config().User) + " and schedule them there"}})
		return nil
	}
	m.note([]schema.Finding{{Kind: "JOB", Name: "pg_cron", Harmless: true,
		Message: fmt.Sprintf("%d of %d jobs are on the target, inactive, so that none runs on both sides", r.Scheduled-len(r.Roleless), r.Scheduled),
		Remedy:  "make them active when the target is in use: SELECT cron.alter_job(jobid, active := true) FROM cron.job"}})
	for _, j := range r.Roleless {
		m.note([]schema.Finding{{Kind: "JOB", Name: j.String(), Harmless: true, Message: "left out: the target has no role " + j.Role + " that may log in",
			Remedy: "CREATE ROLE " + pg.QuoteIdent(j.Role) + " LOGIN on the target, and schedule the job there"}})
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
		if _, err := source.PgConn().Exec(ctx, journal.SetLocalLockTimeout(wakeTimeout)+"LOCK TABLE crossfade.job IN SHARE ROW EXCLUSIVE MODE").ReadAll(); err != nil {
			return err
		}
		if shut, err := journal.FenceShut(ctx, source); err != nil || shut {
			return err
		}
		_, err := source.PgConn().Exec(ctx, extension.WakeJobs).ReadAll()
		return err
	})
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
		_, err := source.PgConn().Exec(ctx, journal.SetLocalLockTimeout(decisionLockTimeout)+extension.WakeJobs).ReadAll()
		return err
	})
	if err != nil {
		return fmt.Errorf("let the jobs of pg_cron run again: %w; end the session that holds rows of cron.job, and try again", err)
	}
	return nil
}
