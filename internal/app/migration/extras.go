package migration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/extras/extension"
	"crossfade/replicate/extras/largeobject"
	"crossfade/replicate/snapshot"
	"crossfade/schema/finding"
)

// Extras are what belongs to no stream: rows of extensions, large objects and jobs of pg_cron.
type Extras struct {
	task     *Task
	findings *Findings
	schema   *Schema
}

// extrasPatience bounds how long a database may be away while extras are copied, as
// the copy of a table's chunk has it.
const extrasPatience = 15 * time.Minute

// Extras copies what no relation of the plan holds: the rows of the user's in
// tables of extensions, and large objects where these are wanted. Both are of the
// copy's snapshot while that is held. No stream carries either: the one is copied again where
// it changes, and what changes of the other stops a cutover.
func (m *Extras) Extras(ctx context.Context, held *snapshot.Holder) error {
	if m.task.Options.SchemaOnly {
		return nil
	}
	return retry.Do(ctx, retry.Policy{MaxElapsed: extrasPatience, OnRetry: obs.Retrying(m.task.Log, "extensions' rows and large objects are copied")}, func(ctx context.Context) error {
		err := m.extensionRows(ctx, held)
		if err == nil && !m.task.Options.Filter.Includes() {
			err = m.jobsOnce(ctx)
		}
		if err == nil && m.task.Options.LargeObjects {
			err = m.largeObjects(ctx, held)
		}
		if errors.Is(err, snapshot.ErrLost) && m.task.Identity.Target.Mode == runs.ModeRun {
			held = nil // no stream follows these, so that a later moment serves as well
		}
		if err != nil && !watch.Passing(err) {
			return retry.Permanent(err)
		}
		return err
	})
}

func (m *Extras) copyExtensionRows(ctx context.Context, held *snapshot.Holder) error {
	done, err := extension.Copy(ctx, extension.Config{Source: m.task.ConnectSource, Target: m.task.ConnectTarget, Snapshot: held, Roles: m.task.Roles, LockTimeout: m.task.LockTimeout, Takes: m.schema.takesRows()})
	for _, c := range done {
		if !c.Table.Sequence {
			m.task.Log.Info().Str("extension", c.Table.Extension).Str("table", c.Table.Name.Display()).Int64("rows", c.Rows).Msg("copied rows of an extension's table")
		}
	}
	return err
}

func (m *Extras) largeObjects(ctx context.Context, held *snapshot.Holder) error {
	if err := m.markLargeObjects(ctx, held); err != nil {
		return err
	}
	r, err := largeobject.Copy(ctx, largeobject.Config{
		Source: m.task.ConnectSource, Target: m.task.ConnectTarget, Snapshot: held, LockTimeout: m.task.LockTimeout, Roles: m.task.Roles,
		Owners: !m.task.Options.Schema.NoOwner, Privileges: !m.task.Options.Schema.NoACL, Comments: !m.task.Options.Schema.NoComments,
	})
	if err != nil {
		return err
	}
	if r.OwnersLeft+r.GrantsLeft > 0 {
		m.task.Log.Warn().Int64("owners", r.OwnersLeft).Int64("grants", r.GrantsLeft).
			Msg("left out of large objects: owners that the target's role may not give, and grants to roles that the target does not have")
	}
	if r.Objects > 0 {
		m.task.Log.Info().Int64("objects", r.Objects).Int64("bytes", r.Bytes).Msg("copied large objects; they are not followed")
	}
	return nil
}

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
		tell(true, "jobs_run_on", fmt.Sprintf("%d jobs of pg_cron continue to run on the source after the switch, since the role of --source may not change them: the fence refuses what they write there, but does not stop anything else that they do", r.Scheduled),
			readRights+" Or end them yourself after the switch, on the source: UPDATE cron.job SET active = false WHERE database = pg_catalog.current_database()")
	}
	if r.Unwritten {
		tell(false, "jobs_not_writable", fmt.Sprintf("%d jobs of pg_cron are scheduled on the source, and the role of --target may not write jobs", r.Scheduled),
			"on the target: "+extension.WriteRights(target.Config().User))
	}
	if len(r.Foreign) > 0 {
		names := lists.Map(r.Foreign, extension.Job.String)
		off := lists.Map(r.Foreign, func(j extension.Job) string { return fmt.Sprintf("cron.alter_job(%d, active := false)", j.ID) })
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
	return m.task.onSource(ctx, nil, 0, func(source *pgx.Conn) error {
		return m.task.onTarget(ctx, func(target *pgx.Conn) error { return m.copyJobs(ctx, source, target) })
	})
}

func (m *Extras) copyJobs(ctx context.Context, source, target *pgx.Conn) error {
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

// markLargeObjects records the state of the large objects that are about to be copied, under the
// copy's snapshot or, if that is gone, now, so that what is written meanwhile counts as written
// since. What an earlier attempt has copied is from an earlier moment, so its mark stays.
func (m *Extras) markLargeObjects(ctx context.Context, held *snapshot.Holder) error {
	if m.task.oneShot() {
		return nil
	}
	return m.task.onTarget(ctx, func(target *pgx.Conn) error {
		kept, err := journal.LoadMark(ctx, target, watch.MarkLargeObjects)
		if err != nil || kept != "" {
			return err
		}
		mark, err := askSource(ctx, m.task, held, m.task.LockTimeout, func(ctx context.Context, source *pgx.Conn) (string, error) {
			taken, err := largeobject.TakeMeasure(ctx, source)
			return taken.Encode(), err
		})
		if err != nil {
			return err
		}
		return journal.SaveMark(ctx, target, watch.MarkLargeObjects, mark)
	})
}

// extensionRows copies the users' rows in tables of extensions, and keeps their digest, which is of
// the same moment or of one before.
func (m *Extras) extensionRows(ctx context.Context, held *snapshot.Holder) error {
	if m.task.oneShot() {
		return m.copyExtensionRows(ctx, held)
	}
	mark, err := askSource(ctx, m.task, held, m.task.LockTimeout, extension.Digest)
	if err == nil {
		err = m.copyExtensionRows(ctx, held)
	}
	if err != nil {
		return err
	}
	return m.task.onTarget(ctx, func(target *pgx.Conn) error { return journal.SaveMark(ctx, target, watch.MarkExtensionRows, mark) })
}

// FindExtensionRows copies the users' rows in tables of extensions again where they have changed:
// no stream carries them, but they are few. Under the fence the applications cannot write, so what
// is copied then is final. The scan's limit bounds the scan and, for a cutover, the copy too.
func (m *Extras) FindExtensionRows(ctx context.Context, source, target *pgx.Conn, s watch.Scan) ([]watch.Notice, error) {
	was, err := journal.LoadMark(ctx, target, watch.MarkExtensionRows)
	if err != nil || was == "" {
		return nil, err
	}
	const rows = "rows that users keep in tables of extensions"
	bounded, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	late := func() bool { return bounded.Err() != nil && ctx.Err() == nil }
	begin := time.Now()
	is, err := extension.Digest(bounded, source)
	took := time.Since(begin)
	switch {
	case err != nil && late() && s.Armed:
		return s.Unseen("extension_rows_unseen", rows, "whether they are as they were copied"), nil
	case err != nil && late():
		return []watch.Notice{{Warns: true, Blocker: control.Blocker{Code: "extension_rows_unseen",
			Detail: fmt.Sprintf("%s take more than %v to be read, so that they are not compared for the status; a cutover reads them, while it is armed and in the pause", rows, s.Limit),
			Remedy: "remove those that nothing uses"}}}, nil
	case err != nil:
		return nil, err
	case is == was:
		return s.Fits("extension_rows_unseen", rows, took), nil
	}
	copying := ctx // for the status it has the time of the question
	if s.Armed {
		copying = bounded
	}
	if err := m.extensionRows(copying, nil); err != nil {
		if late() && s.Armed {
			return s.Unseen("extension_rows_unseen", rows, "whether they are on the target as they are by now"), nil
		}
		if watch.PassesByItself(copying, err) {
			return nil, err
		}
		return []watch.Notice{{Blocker: control.Blocker{Code: "extension_rows_changed", Detail: rows + " were written since they were copied, and could not be copied again: " + err.Error(),
			Remedy: "remove the cause that is named; crossfade run tries again by itself"}}}, nil
	}
	return s.Fits("extension_rows_unseen", rows, took), nil
}
