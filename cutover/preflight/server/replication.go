package server

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// WALLevel asks whether the source can be followed: it is no standby, and writes what logical
// decoding needs.
func WALLevel(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	state, err := inquiry.One[struct {
		Level   string
		Standby bool
	}](ctx, p.Source, "wal_level", `SELECT current_setting('wal_level'), pg_is_in_recovery()`)
	if err != nil {
		return nil, err
	}
	return sourceFindings(state.Level, state.Standby), nil
}

func sourceFindings(level string, standby bool) []answer.Finding {
	var found []answer.Finding
	if standby {
		found = append(found, answer.Finding{
			Code: "source_is_standby", Severity: answer.Blocker, Object: "source",
			Detail: "is a standby: it can neither be published nor fenced",
			Remedy: "name the primary server as --source",
		})
	}
	if level != "logical" {
		found = append(found, answer.Finding{
			Code: "wal_level", Severity: answer.Blocker, Object: "source",
			Detail: fmt.Sprintf("wal_level is %s; changes can be followed only with logical", level),
			Remedy: "ALTER SYSTEM SET wal_level = 'logical' on the source, then restart it (Amazon RDS: rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on); crossfade copy does without",
			On:     answer.Source, SQL: "ALTER SYSTEM SET wal_level = 'logical'",
		})
	}
	return found
}

// Replication opens a replication connection, since services grant the
// right in ways of their own that no attribute of the role shows.
func Replication(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	err := p.Options.OpenReplication(ctx)
	if err == nil {
		return nil, nil
	}
	role, roleErr := inquiry.CurrentRole(ctx, p.Source)
	if roleErr != nil {
		return nil, roleErr
	}
	switch pg.Code(err) {
	case pg.CodeInsufficientPrivilege, pg.CodeInvalidAuthorization:
		return []answer.Finding{{
			Code: "no_replication", Severity: answer.Blocker, Object: role.Name,
			Detail: "may not open a replication connection to the source",
			Remedy: fmt.Sprintf("ALTER ROLE %[1]s REPLICATION (Amazon RDS: GRANT rds_replication TO %[1]s), and let it in by pg_hba.conf", pg.QuoteIdent(role.Name)),
			On:     answer.Source, SQL: fmt.Sprintf("ALTER ROLE %s REPLICATION", pg.QuoteIdent(role.Name)),
		}}, nil
	case pg.CodeTooManyConnections:
		return noneFree(ctx, p, err)
	case pg.CodeObjectNotInState:
		// wal_level = minimal knows no walsenders; the check of wal_level says so.
		return nil, nil
	}
	return nil, fmt.Errorf("open replication connection: %w", err)
}

// noneFree says why the source has no connection for replication: that all walsenders are
// taken is Capacity's to say, where there is no slot of ours. No other limit counts
// walsenders, so that anything else is of a moment.
func noneFree(ctx context.Context, p *inquiry.Pair, refused error) ([]answer.Finding, error) {
	u, err := readUsage(ctx, p.Source)
	switch {
	case err != nil:
		return nil, err
	case u.Senders >= u.MaxSenders && u.OwnSlot:
		return []answer.Finding{noWALSender(u)}, nil
	case u.Senders >= u.MaxSenders:
		return nil, nil
	}
	return nil, fmt.Errorf("open replication connection: %w", refused)
}
