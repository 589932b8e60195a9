package preflight

import (
	"context"
	"strings"
)

// checkNeighbours names what else replicates from or into the source: after the
// cutover the source stands still, and they would go stale without a word.
func (p *Preflight) checkNeighbours(ctx context.Context) ([]Finding, error) {
	type neighbour struct{ Code, Name, Detail, Remedy string }
	there, err := list[neighbour](ctx, p.source, "replication of others", `
		SELECT 'foreign_publication', pubname::text,
			'its subscribers get no more changes after the cutover',
			'publish from the target as well, and let the subscribers change over'
		FROM pg_publication WHERE pubname <> 'crossfade'
		UNION ALL
		SELECT 'publication_of_all_tables', pubname::text,
			'publishes all tables, and so those that Crossfade keeps in schema crossfade: a subscriber that lacks them stops at their first row',
			'in the database of each subscriber: ' || $1
		FROM pg_publication WHERE puballtables AND $2
		UNION ALL
		SELECT 'foreign_slot', slot_name::text,
			'a ' || slot_type || ' slot' || coalesce(' with ' || plugin, '') || CASE WHEN active THEN ', being read' ELSE ', not being read' END
				|| '; its reader gets no more changes after the cutover',
			'plan how its reader changes over to the target, or drop the slot if it has none'
		FROM pg_replication_slots
		WHERE NOT temporary AND slot_name NOT LIKE 'crossfade\_%' AND slot_name <> 'wal_proposer_slot'
			AND (database IS NULL OR database = current_database())
		UNION ALL
		SELECT CASE WHEN subenabled THEN 'active_subscription' ELSE 'foreign_subscription' END, subname::text,
			CASE WHEN subenabled THEN '' ELSE 'it is disabled; enabled, ' END || 'it writes to the source past the proxy, and no fence stops it: what it brings after the fence would be lost',
			'disable it, and subscribe from the target instead'
		FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		ORDER BY 1, 2`, "CREATE SCHEMA crossfade; "+strings.Join(strings.Fields(p.opts.OwnTables), " "), p.opts.OwnTables != "")
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, n := range there {
		severity := Warning
		if n.Code == "active_subscription" && p.opts.Mode == Run {
			severity = Blocker
		}
		found = append(found, Finding{Code: n.Code, Severity: severity, Object: n.Name, Detail: n.Detail, Remedy: n.Remedy})
	}
	return found, nil
}
