package server

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
)

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
