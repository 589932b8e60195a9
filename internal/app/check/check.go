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
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/roles"
)

// Check asks both databases whether a run could move the one to the other, or where once
// is given, whether that copy could be made. It changes nothing. An error means that not
// even the asking was possible. Of cfg it needs the two databases, and what a run would be
// told of logins, large objects, privileges and roles.
func Run(ctx context.Context, cfg options.Run, once *options.Copy) (preflight.Report, error) {
	source, target := cfg.Source, cfg.Target
	if err := cfg.Logins().ValidateMapRole(); err != nil {
		return preflight.Report{}, exit.Usage(err)
	}
	if report, refused := refusedHosts(source, target); refused {
		return report, nil
	}
	s, err := pg.Connect(ctx, source, pg.WithName("check"))
	if err != nil {
		return preflight.Report{}, fmt.Errorf("source: %w", err)
	}
	defer dbconn.CloseNow(s)
	t, err := pg.Connect(ctx, target, pg.WithName("check"))
	if err != nil {
		return preflight.Report{}, fmt.Errorf("target: %w", err)
	}
	defer dbconn.CloseNow(t)
	if once != nil {
		return ask(ctx, s, t, cfg, preflight.Options{Mode: preflight.Copy, LargeObjects: once.LargeObjects}, *once)
	}
	u, err := logins.Surveyed(ctx, s, t, cfg.Logins())
	if err != nil {
		return preflight.Report{}, err
	}
	return ask(ctx, s, t, cfg, preflight.Options{Mode: preflight.Run, LargeObjects: cfg.LargeObjects, Logins: u.Survey()}, cfg.CopyOptions())
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
func refusedHosts(source, target pg.DSN) (preflight.Report, bool) {
	var r preflight.Report
	for _, side := range []struct {
		name string
		dsn  pg.DSN
	}{{"source", source}, {"target", target}} {
		if err := options.RefusePooler("--"+side.name, side.dsn); err != nil {
			what, remedy, _ := strings.Cut(err.Error(), ": use ")
			r.Findings = append(r.Findings, preflight.Finding{Code: "pooler_host", Severity: preflight.Blocker, Object: side.name,
				Detail: what, Remedy: "use " + remedy})
		}
	}
	return r, len(r.Findings) > 0
}

// ask runs the checks; o needs only the options that define the migration, and opts say what it
// includes.
func ask(ctx context.Context, s, t *pgx.Conn, cfg options.Run, o preflight.Options, opts options.Copy) (preflight.Report, error) {
	var err error
	if o.Scope, err = scopeOf(ctx, opts, cfg.Source); err != nil {
		return preflight.Report{}, err
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
		return preflight.Report{}, err
	}
	return p.Run(ctx), nil
}

// RefusedError says that nothing was begun, and why.
type RefusedError struct {
	// Report contains the blockers and the checks that could not be completed, no warnings.
	Report preflight.Report
}

// Error is one line, for a log.
func (e *RefusedError) Error() string {
	var parts []string
	for _, f := range e.Report.Findings {
		parts = append(parts, f.String())
	}
	for _, i := range e.Report.Incomplete {
		parts = append(parts, fmt.Sprintf("check %s could not be completed: %v", i.Check, i.Err))
	}
	return "not begun: " + strings.Join(parts, " | ")
}

// refuseBlocked asks and turns blockers into a RefusedError.
func Refuse(ctx context.Context, cfg options.Run, o preflight.Options, opts options.Copy, log zerolog.Logger) error {
	s, err := pg.Connect(ctx, cfg.Source, pg.WithName("check"))
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer dbconn.CloseNow(s)
	t, err := pg.Connect(ctx, cfg.Target, pg.WithName("check"))
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer dbconn.CloseNow(t)
	report, err := ask(ctx, s, t, cfg, o, opts)
	if err != nil {
		return exit.NotComplete(err)
	}
	for _, f := range report.Of(preflight.Warning) {
		log.Warn().Str("code", f.Code).Str("object", f.Object).Str("detail", f.Detail).Str("remedy", f.Do()).Msg("preflight warning")
	}
	refused := &RefusedError{preflight.Report{Findings: report.Of(preflight.Blocker), Incomplete: report.Incomplete}}
	switch report.ExitCode() {
	case preflight.ExitReady:
		return nil
	case preflight.ExitIncomplete:
		return exit.NotComplete(refused)
	}
	return refused
}

// scopeOf is what the checks before a copy need to know of it. It asks the source for what
// the patterns take along.
func scopeOf(ctx context.Context, o options.Copy, source pg.DSN) (preflight.Scope, error) {
	s := preflight.Scope{Clean: o.Clean, SchemaOnly: o.SchemaOnly, DataOnly: o.DataOnly, NoACL: o.Schema.NoACL, MakeRoles: o.Schema.Roles}
	taken, err := o.Filter.Take(ctx, source)
	if err != nil {
		return preflight.Scope{}, fmt.Errorf("source: %w", err)
	}
	if taken != nil {
		s.Taken = &preflight.Taken{Everything: taken.Everything, Schemas: taken.Schemas, Relations: taken.Relations, WithoutRows: taken.WithoutRows}
	}
	return s, nil
}
