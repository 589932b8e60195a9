package migration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/extension"
	"crossfade/schema/finding"
)

// AskJobs is a watcher's question, which puts the target's jobs right as well: what was
// scheduled on the source since is there too, inactive, before it can be decided.
func (m *Extras) AskJobs(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
	r, err := extension.SyncJobs(ctx, source, target, m.task.Roles)
	var taken *extension.TakenError
	if err != nil && !errors.As(err, &taken) {
		return nil, err
	}
	var found []watch.Notice
	tell := func(warns bool, code, detail, remedy string) {
		found = append(found, watch.Notice{Warns: warns, Blocker: control.Blocker{Code: code, Detail: detail, Remedy: remedy}})
	}
	if err := ports.WakeJobs(ctx, source); err != nil {
		tell(true, "jobs_rest", "jobs of pg_cron on the source still rest after an attempt that was taken back: "+err.Error(), ports.EndJobsHolder(ctx, source)+"; or wait: crossfade run tries again every second")
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
		role, verb, why := m.task.targetRole(j.Role), "CREATE", "which the target does not have"
		if j.Barred {
			verb, why = "ALTER", "which may not log in at the target"
		}
		tell(false, "job_role", "job "+j.String()+" of pg_cron runs as role "+role+", "+why+": the launcher of pg_cron would end with it, and every job",
			"on the target: "+verb+" ROLE "+pg.QuoteIdent(role)+" LOGIN; or have the job no more, on the source: SELECT cron.unschedule("+fmt.Sprint(j.ID)+")")
	}
	switch {
	case r.Unread:
		tell(true, "jobs_unseen", "the role of --source may not read the jobs of pg_cron: those of this database stay on the source and continue to run there", readRights+byHand)
	case r.Blind:
		own := ""
		if r.Scheduled > 0 {
			own = fmt.Sprintf(", and its own %d continue to run there after the switch", r.Scheduled)
		}
		tell(true, "jobs_unseen", "row security shows the role of --source its own jobs of pg_cron alone: jobs of other roles stay on the source"+own, readRights+byHand)
	case r.Unresting && r.Scheduled > 0:
		tell(true, "jobs_run_on", fmt.Sprintf("%d jobs of pg_cron continue to run on the source after the switch, since the role of --source may not change them: what they write there the fence refuses, but nothing else that they do", r.Scheduled),
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

// targetRole is the role on the target that replaces one of the source.
func (m *Task) targetRole(name string) string {
	return cmp.Or(m.Roles[name], name)
}

// jobsOnce has the jobs arrive on the target, inactive. Where nothing follows they stay so.
func (m *Extras) jobsOnce(ctx context.Context) error {
	source, err := m.task.ConnectSource(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(source)
	target, err := m.task.ConnectTarget(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(target)
	r, err := extension.SyncJobs(ctx, source, target, m.task.Roles)
	if err != nil || r.Scheduled == 0 || !m.task.oneShot() {
		return err
	}
	if r.Unwritten {
		m.findings.note([]finding.Finding{{Kind: "JOB", Name: "pg_cron", Harmless: true, Message: fmt.Sprintf("%d jobs are left out: the role of --target may not write jobs", r.Scheduled),
			Remedy: "on the target: " + extension.WriteRights(target.Config().User) + " and schedule them there"}})
		return nil
	}
	m.findings.note([]finding.Finding{{Kind: "JOB", Name: "pg_cron", Harmless: true,
		Message: fmt.Sprintf("%d of %d jobs are on the target, inactive, so that none runs on both sides", r.Scheduled-len(r.Roleless), r.Scheduled),
		Remedy:  "make them active when the target is in use: SELECT cron.alter_job(jobid, active := true) FROM cron.job"}})
	for _, j := range r.Roleless {
		role, verb := m.task.targetRole(j.Role), "CREATE"
		if j.Barred {
			verb = "ALTER"
		}
		m.findings.note([]finding.Finding{{Kind: "JOB", Name: j.String(), Harmless: true, Message: "left out: the target has no role " + role + " that may log in",
			Remedy: "on the target: " + verb + " ROLE " + pg.QuoteIdent(role) + " LOGIN; then schedule the job there"}})
	}
	return nil
}
