package preflight

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

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

func noWALSender(u usage) answer.Finding {
	sql := fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d", u.MaxSenders+spare)
	return answer.Finding{
		Code: "wal_senders_full", Severity: answer.Blocker, Object: "max_wal_senders",
		Detail: fmt.Sprintf("all %d walsenders of the source are taken", u.MaxSenders),
		Remedy: sql + " on the source, then restart it; or end a replication connection that nobody needs",
		On:     answer.Source, SQL: sql,
	}
}

// spare is by how much a remedy raises a limit: what a migration takes, and one for
// whoever comes meanwhile.
const spare = 3

func noSlot(side answer.Side, u usage, why string) answer.Finding {
	sql := fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d", u.MaxSlots+spare)
	return answer.Finding{
		Code: "replication_slots_full", Severity: answer.Blocker, Object: "max_replication_slots",
		Detail: fmt.Sprintf("all %d replication slots of the %s are taken%s", u.MaxSlots, side, why),
		Remedy: fmt.Sprintf("%s on the %s, then restart it; or drop a slot that nobody reads", sql, side),
		On:     side, SQL: sql,
	}
}

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
			Detail: fmt.Sprintf("the source gives up a slot that nobody read for %s, as during the copy; the migration must then begin again", idle),
			Remedy: "ALTER SYSTEM SET idle_replication_slot_timeout = 0 on the source, for the time of the migration, then SELECT pg_reload_conf()",
			On:     answer.Source, SQL: "ALTER SYSTEM SET idle_replication_slot_timeout = 0",
		})
	}
	return found
}
