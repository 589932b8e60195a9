package preflight

import (
	"context"
	"fmt"

	"crossfade/internal/pg"
)

func (p *Preflight) checkWALLevel(ctx context.Context) ([]Finding, error) {
	state, err := one[struct {
		Level   string
		Standby bool
	}](ctx, p.source, "wal_level", `SELECT current_setting('wal_level'), pg_is_in_recovery()`)
	if err != nil {
		return nil, err
	}
	return sourceFindings(state.Level, state.Standby), nil
}

func sourceFindings(level string, standby bool) []Finding {
	var found []Finding
	if standby {
		found = append(found, Finding{
			Code: "source_is_standby", Severity: Blocker, Object: "source",
			Detail: "is a standby: it can neither be published nor fenced",
			Remedy: "use the host of the primary",
		})
	}
	if level != "logical" {
		found = append(found, Finding{
			Code: "wal_level", Severity: Blocker, Object: "source",
			Detail: fmt.Sprintf("wal_level is %s; changes can be followed only with logical", level),
			Remedy: "ALTER SYSTEM SET wal_level = 'logical', then restart (Amazon RDS: rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on); crossfade copy does without",
			On:     Source, SQL: "ALTER SYSTEM SET wal_level = 'logical'",
		})
	}
	return found
}

// checkReplication opens a replication connection, since services grant the
// right in ways of their own that no attribute of the role shows.
func (p *Preflight) checkReplication(ctx context.Context) ([]Finding, error) {
	err := p.opts.OpenReplication(ctx)
	if err == nil {
		return nil, nil
	}
	role, roleErr := currentRole(ctx, p.source)
	if roleErr != nil {
		return nil, roleErr
	}
	switch pg.Code(err) {
	case pg.CodeInsufficientPrivilege, pg.CodeInvalidAuthorization:
		return []Finding{{
			Code: "no_replication", Severity: Blocker, Object: role.Name,
			Detail: "may not open a replication connection to the source",
			Remedy: fmt.Sprintf("ALTER ROLE %[1]s REPLICATION (Amazon RDS: GRANT rds_replication TO %[1]s), and let it in by pg_hba.conf", pg.QuoteIdent(role.Name)),
			On:     Source, SQL: fmt.Sprintf("ALTER ROLE %s REPLICATION", pg.QuoteIdent(role.Name)),
		}}, nil
	case pg.CodeTooManyConnections:
		return []Finding{noWALSender("no connection for replication is free on the source")}, nil
	case pg.CodeObjectNotInState:
		// wal_level = minimal knows no walsenders; the check of wal_level says so.
		return nil, nil
	}
	return nil, fmt.Errorf("open replication connection: %w", err)
}

func noWALSender(detail string) Finding {
	return Finding{
		Code: "wal_senders_full", Severity: Blocker, Object: "max_wal_senders",
		Detail: detail,
		Remedy: "raise max_wal_senders and restart, or end a replication connection that nobody needs",
	}
}

func noSlot(side, detail string) Finding {
	return Finding{
		Code: "replication_slots_full", Severity: Blocker, Object: "max_replication_slots",
		Detail: detail,
		Remedy: fmt.Sprintf("raise max_replication_slots on the %s and restart, or drop a slot that nobody reads", side),
	}
}

func (p *Preflight) checkRetention(ctx context.Context) ([]Finding, error) {
	var found []Finding
	keep, err := setting(ctx, p.source, "max_slot_wal_keep_size")
	if err != nil {
		return nil, err
	}
	if keep != "" && keep != "-1" {
		found = append(found, Finding{
			Code: "slot_wal_limited", Severity: Warning, Object: "max_slot_wal_keep_size",
			Detail: fmt.Sprintf("the source drops what a slot still needs beyond %s; the migration must then begin again", keep),
			Remedy: "set max_slot_wal_keep_size above what the source writes during the copy",
		})
	}
	idle, err := setting(ctx, p.source, "idle_replication_slot_timeout")
	if err != nil {
		return nil, err
	}
	if idle != "" && idle != "0" {
		found = append(found, Finding{
			Code: "slot_idle_limited", Severity: Warning, Object: "idle_replication_slot_timeout",
			Detail: fmt.Sprintf("the source gives up a slot that nobody read for %s, as during the copy; the migration must then begin again", idle),
			Remedy: "ALTER SYSTEM SET idle_replication_slot_timeout = 0 for the time of the migration, then reload",
		})
	}
	return found, nil
}
