// Package check asks both databases, before anything is made, whether a run or a copy can move one
// to the other. It changes nothing.
package check

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/preflight"
	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/roles"
)

// Check asks both databases whether a run could move the one to the other, or where once
// is given, whether that copy could be made. It changes nothing. An error means that not
// even the asking was possible. Of cfg it needs the two databases, and what a run would be
// told of logins, large objects, privileges and roles.
func Run(ctx context.Context, cfg options.Run, once *options.Copy) (answer.Report, error) {
	source, target := cfg.Source, cfg.Target
	if err := cfg.Logins().ValidateMapRole(); err != nil {
		return answer.Report{}, exit.Usage(err)
	}
	if report, refused := refusedHosts(source, target); refused {
		return report, nil
	}
	s, t, end, err := dbconn.Both(ctx, source, target, "check")
	if err != nil {
		return answer.Report{}, err
	}
	defer end()
	if once != nil {
		return ask(ctx, s, t, cfg, inquiry.Options{Mode: inquiry.Copy, LargeObjects: once.LargeObjects}, *once)
	}
	u, err := logins.Surveyed(ctx, s, t, cfg.Logins())
	if err != nil {
		return answer.Report{}, err
	}
	return ask(ctx, s, t, cfg, inquiry.Options{Mode: inquiry.Run, LargeObjects: cfg.LargeObjects, Logins: u.Survey()}, cfg.CopyOptions())
}

// What a run takes on each side at most, in addition to a session for each COPY stream: its links,
// the stream and the applier, the locks, the rehearsal and the comparison of a cutover. A test
// counts them.
const sourceSessions, targetSessions = 20, 18

// OwnSessions is how many connections a run takes for itself on source and target.
func OwnSessions(jobs int) [2]int {
	if jobs == 0 { // if the caller does not say, as in a check
		jobs = options.DefaultJobs()
	}
	return [2]int{sourceSessions + jobs, targetSessions + jobs}
}

// refusedHosts reports poolers without dialling them, since they may not be
// reachable in the way that a check needs.
func refusedHosts(source, target pg.DSN) (answer.Report, bool) {
	var r answer.Report
	for _, side := range []struct {
		name string
		dsn  pg.DSN
	}{{"source", source}, {"target", target}} {
		if err := options.RefusePooler("--"+side.name, side.dsn); err != nil {
			what, remedy, _ := strings.Cut(err.Error(), ": use ")
			r.Findings = append(r.Findings, answer.Finding{Code: "pooler_host", Severity: answer.Blocker, Object: side.name,
				Detail: what, Remedy: "use " + remedy})
		}
	}
	return r, len(r.Findings) > 0
}

// ask runs the checks; o needs only the options that define the migration, and opts say what it
// includes.
func ask(ctx context.Context, s, t *pgx.Conn, cfg options.Run, o inquiry.Options, opts options.Copy) (answer.Report, error) {
	var err error
	if o.Scope, err = scopeOf(ctx, opts, cfg.Source); err != nil {
		return answer.Report{}, err
	}
	o.SourceHost, o.TargetHost = cfg.Source.Host(), cfg.Target.Host()
	o.OpenReplication = func(ctx context.Context) error {
		conn, err := pg.ConnectReplication(ctx, cfg.Source, pg.WithName("check"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	o.OpenSource = func(ctx context.Context) (*pgx.Conn, error) {
		return pg.Connect(ctx, cfg.Source, pg.WithName("check"), pg.WithOwnSearchPath())
	}
	o.PgDumpMajor = func(ctx context.Context) (int, error) { return archive.DumpMajor(ctx, pg.ServerVersion(s)/10000) }
	o.PlatformRole = roles.PlatformRole
	o.Sessions = OwnSessions(cfg.Jobs)
	o.OwnTables = journal.SourceTables
	o.LeftOver = func(ctx context.Context) (detail, remedy string, err error) { return runs.LeftOver(ctx, s, t) }
	p, err := preflight.New(s, t, o)
	if err != nil {
		return answer.Report{}, err
	}
	return p.Run(ctx), nil
}

// RefusedError says that nothing was begun, and why.
type RefusedError struct {
	// Report contains the blockers and the checks that could not be completed, no warnings.
	Report answer.Report
}

// Error is one line, for a log.
func (e *RefusedError) Error() string {
	parts := lists.Map(e.Report.Findings, answer.Finding.String)
	for _, i := range e.Report.Incomplete {
		parts = append(parts, fmt.Sprintf("check %s could not be completed: %v", i.Check, i.Err))
	}
	return "not begun: " + strings.Join(parts, " | ")
}

// refuseBlocked asks and turns blockers into a RefusedError.
func Refuse(ctx context.Context, cfg options.Run, o inquiry.Options, opts options.Copy, log zerolog.Logger) error {
	s, t, end, err := dbconn.Both(ctx, cfg.Source, cfg.Target, "check")
	if err != nil {
		return err
	}
	defer end()
	report, err := ask(ctx, s, t, cfg, o, opts)
	if err != nil {
		return exit.NotComplete(err)
	}
	for _, f := range report.Of(answer.Warning) {
		log.Warn().Str("code", f.Code).Str("object", f.Object).Str("detail", f.Detail).Str("remedy", f.Do()).Msg("preflight warning")
	}
	refused := &RefusedError{answer.Report{Findings: report.Of(answer.Blocker), Incomplete: report.Incomplete}}
	switch report.ExitCode() {
	case answer.ExitReady:
		return nil
	case answer.ExitIncomplete:
		return exit.NotComplete(refused)
	}
	return refused
}

// scopeOf is what the checks before a copy need to know of it. It asks the source for what
// the patterns take along.
func scopeOf(ctx context.Context, o options.Copy, source pg.DSN) (inquiry.Scope, error) {
	s := inquiry.Scope{Clean: o.Clean, SchemaOnly: o.SchemaOnly, DataOnly: o.DataOnly, NoACL: o.Schema.NoACL, MakeRoles: o.Schema.Roles}
	taken, err := o.Filter.Take(ctx, source)
	if err != nil {
		return inquiry.Scope{}, fmt.Errorf("source: %w", err)
	}
	s.Taken = (*inquiry.Taken)(taken)
	return s, nil
}
