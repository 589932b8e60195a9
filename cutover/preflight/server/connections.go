package server

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// allowance is how many connections the role of a session may have, by each of the limits that hold
// for it. A limit is negative for none. Sessions of ours count as not used: they are this check's,
// or end before a run begins.
type allowance struct {
	Role                   string
	RoleLimit, RoleUsed    int
	Database               string
	BaseLimit, BaseUsed    int
	ServerLimit, ServerUse int
}

func readAllowance(ctx context.Context, conn *pgx.Conn) (allowance, error) {
	return inquiry.One[allowance](ctx, conn, "limits of connections", `
		WITH taken AS MATERIALIZED (SELECT usesysid, datid, coalesce(backend_type, 'client backend') AS kind FROM pg_stat_activity
			WHERE usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') IN ('client backend', 'walsender') AND coalesce(application_name, '') NOT LIKE 'crossfade%')
		SELECT r.rolname::text, CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END, (SELECT count(*) FROM taken WHERE usesysid = r.oid)::int,
			d.datname::text, CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END, (SELECT count(*) FROM taken WHERE datid = d.oid)::int,
			current_setting('max_connections')::int
				- CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true), '0')::int END,
			(SELECT count(*) FROM taken WHERE kind = 'client backend')::int
		FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()`)
}

// Connections compares what a run takes for itself with the limits of both sides: one that runs out
// of connections fails in the middle, or takes those of the applications.
func Connections(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	var found []answer.Finding
	if p.Options.Resume { // it has to serve, whatever it gets
		return nil, nil
	}
	for _, x := range []struct {
		side answer.Side
		conn *pgx.Conn
		need int
	}{{answer.Source, p.Source, p.Options.Sessions[0]}, {answer.Target, p.Target, p.Options.Sessions[1]}} {
		a, err := readAllowance(ctx, x.conn)
		if err != nil {
			return nil, err
		}
		found = append(found, a.findings(x.side, x.need)...)
	}
	return found, nil
}

func (a allowance) findings(side answer.Side, need int) []answer.Finding {
	var found []answer.Finding
	lacks := func(object, whose string, limit, used int, alter string) {
		if limit < 0 || used+need <= limit {
			return
		}
		f := answer.Finding{Code: "own_connections", Severity: answer.Blocker, Object: object,
			Detail: fmt.Sprintf("a run takes up to %d connections of its own on the %s in addition to those of the applications; %s may have %d, and %d are in use", need, side, whose, limit, used)}
		if alter != "" {
			f.SQL, f.On = fmt.Sprintf("%s CONNECTION LIMIT %d", alter, used+need), side
			f.Remedy = f.SQL + " on the " + string(side)
		} else {
			f.Remedy = fmt.Sprintf("raise max_connections of the %s by %d and restart it (on Neon: a larger compute), or end sessions there", side, used+need-limit)
		}
		found = append(found, f)
	}
	lacks("role "+a.Role, "role "+a.Role, a.RoleLimit, a.RoleUsed, "ALTER ROLE "+pg.QuoteIdent(a.Role))
	lacks("database "+a.Database, "database "+a.Database, a.BaseLimit, a.BaseUsed, "ALTER DATABASE "+pg.QuoteIdent(a.Database))
	lacks("max_connections", "everybody", a.ServerLimit, a.ServerUse, "")
	return found
}
