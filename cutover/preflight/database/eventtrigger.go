package database

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// EventTriggers names those that run on our DDL, on either side, and those that the target's role
// may not make.
func EventTriggers(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	var source []eventTrigger
	if p.Options.Scope.Everything() {
		var err error
		if source, err = eventTriggers(ctx, p.Source); err != nil {
			return nil, err
		}
	}
	target, err := eventTriggers(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	may, err := mayMakeEventTriggers(ctx, p)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, e := range source {
		if e.Disabled && may {
			continue
		}
		name := e.Name
		f := answer.Finding{
			Code: "event_trigger", Severity: answer.Warning, Object: name,
			Detail: "runs on DDL at the source, Crossfade's own included, and is carried to the target",
			Remedy: fmt.Sprintf("unless its function lets schema crossfade be: ALTER EVENT TRIGGER %[1]s DISABLE on the source, and ALTER EVENT TRIGGER %[1]s ENABLE on the target after the cutover", pg.QuoteIdent(name)),
			On:     answer.Source, SQL: fmt.Sprintf("ALTER EVENT TRIGGER %s DISABLE", pg.QuoteIdent(name)),
		}
		if !may {
			f.Code, f.Severity = "event_trigger_not_allowed", answer.Blocker
			f.Detail = "only a superuser can make event triggers on the target"
			f.SQL = "DROP EVENT TRIGGER " + pg.QuoteIdent(name)
			f.Remedy = f.SQL + " on the source, and let a superuser make it on the target after the move"
		}
		found = append(found, f)
	}
	for _, e := range target {
		if p.Options.Resume {
			break // the run that is continued may have made them
		}
		if e.Disabled {
			continue
		}
		name := e.Name
		found = append(found, answer.Finding{
			Code: "target_event_trigger", Severity: answer.Warning, Object: name,
			Detail: "runs on the DDL with which the schema is restored on the target",
			Remedy: fmt.Sprintf("ALTER EVENT TRIGGER %s DISABLE on the target until the restore has ended", pg.QuoteIdent(name)),
			On:     answer.Target, SQL: fmt.Sprintf("ALTER EVENT TRIGGER %s DISABLE", pg.QuoteIdent(name)),
		})
	}
	return found, nil
}

// eventTrigger is one that no extension brings; it does nothing while it is disabled.
type eventTrigger struct {
	Name     string
	Disabled bool
}

func eventTriggers(ctx context.Context, conn *pgx.Conn) ([]eventTrigger, error) {
	return inquiry.List[eventTrigger](ctx, conn, "event triggers", `
		SELECT evtname::text, evtenabled = 'D' FROM pg_event_trigger e
		WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid AND d.deptype = 'e')
		ORDER BY 1`)
}

// mayMakeEventTriggers tells whether our role can make event triggers on the
// target. Neon lets the roles that its console makes.
func mayMakeEventTriggers(ctx context.Context, p *inquiry.Pair) (bool, error) {
	role, err := inquiry.CurrentRole(ctx, p.Target)
	if err != nil || role.Super {
		return role.Super, err
	}
	endpoint, err := inquiry.Setting(ctx, p.Target, "neon.endpoint_id")
	return endpoint != "", err
}
