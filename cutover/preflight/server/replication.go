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
			Remedy: "ALTER SYSTEM SET wal_level = 'logical' on the source, then restart it (Amazon RDS: rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on); crossfade copy does not need it",
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

// Retention checks settings that make the source give up a slot.
func Retention(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	keep, err := inquiry.Setting(ctx, p.Source, "max_slot_wal_keep_size")
	if err != nil {
		return nil, err
	}
	idle, err := inquiry.Setting(ctx, p.Source, "idle_replication_slot_timeout")
	if err != nil {
		return nil, err
	}
	return retentionFindings(keep, idle), nil
}

// retentionFindings judges settings that have a server give up a slot; "" for one that it
// does not know.
func retentionFindings(keep, idle string) []answer.Finding {
	var found []answer.Finding
	if keep != "" && keep != "-1" {
		found = append(found, answer.Finding{
			Code: "slot_wal_limited", Severity: answer.Warning, Object: "max_slot_wal_keep_size",
			Detail: fmt.Sprintf("the source drops what a slot still needs beyond %s; the migration must then begin again", keep),
			Remedy: "ALTER SYSTEM SET max_slot_wal_keep_size = -1 on the source, for the time of the migration, then SELECT pg_reload_conf(); --wal-budget bounds what is kept",
			On:     answer.Source, SQL: "ALTER SYSTEM SET max_slot_wal_keep_size = -1",
		})
	}
	if idle != "" && idle != "0" {
		found = append(found, answer.Finding{
			Code: "slot_idle_limited", Severity: answer.Warning, Object: "idle_replication_slot_timeout",
			Detail: fmt.Sprintf("the source invalidates a slot that was not read for %s, which happens during the copy; the migration must then begin again", idle),
			Remedy: "ALTER SYSTEM SET idle_replication_slot_timeout = 0 on the source, for the time of the migration, then SELECT pg_reload_conf()",
			On:     answer.Source, SQL: "ALTER SYSTEM SET idle_replication_slot_timeout = 0",
		})
	}
	return found
}

// Fallback checks what a way back would need on the target, or says that there is none.
func Fallback(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if !p.Options.Fallback {
		return []answer.Finding{{
			Code: "no_fallback", Severity: answer.Info,
			Detail: "there is no way back after the cutover: changes on the target are not replicated to the source",
		}}, nil
	}
	var found []answer.Finding
	level, err := inquiry.Setting(ctx, p.Target, "wal_level")
	if err != nil {
		return nil, err
	}
	if level != "logical" {
		found = append(found, answer.Finding{
			Code: "target_wal_level", Severity: answer.Blocker, Object: "target",
			Detail: fmt.Sprintf("wal_level is %s; the way back needs logical", level),
			Remedy: "ALTER SYSTEM SET wal_level = 'logical' on the target, then restart it (Neon: enable logical replication in the project's settings)",
			On:     answer.Target, SQL: "ALTER SYSTEM SET wal_level = 'logical'",
		})
	}
	taken, err := readUsage(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	if !taken.OwnSlot && taken.Slots >= taken.MaxSlots {
		found = append(found, noSlot(answer.Target, taken, "; the way back needs one"))
	}
	return found, nil
}
