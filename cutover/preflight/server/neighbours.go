package server

import (
	"context"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// Neighbours names what else replicates from or into the source: after the cutover the source no
// longer changes, and their data would silently become stale.
func Neighbours(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	there, err := inquiry.List[neighbour](ctx, p.Source, "replication of others", `
		SELECT 'publication', pubname::text, '', puballtables FROM pg_publication WHERE pubname <> 'crossfade'
		UNION ALL
		SELECT 'slot', slot_name::text, 'a ' || slot_type || ' slot' || coalesce(' with ' || plugin, ''), active
		FROM pg_replication_slots
		WHERE NOT temporary AND slot_name NOT LIKE 'crossfade\_%' AND slot_name <> 'wal_proposer_slot'
			AND (database IS NULL OR database = current_database())
		UNION ALL
		SELECT 'subscription', subname::text, '', subenabled
		FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		ORDER BY 1, 2`)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, n := range there {
		found = append(found, neighbourFindings(p, n)...)
	}
	return found, nil
}

// neighbour is something of the source's that replicates: its kind, its name, and what is
// further known of it.
type neighbour struct {
	Kind, Name, Is string
	Yes            bool // of all tables, being read, enabled
}

func neighbourFindings(p *inquiry.Pair, n neighbour) []answer.Finding {
	name := pg.QuoteIdent(n.Name)
	f := answer.Finding{Severity: answer.Warning, Object: n.Name, On: answer.Source}
	switch n.Kind {
	case "publication":
		f.Code, f.SQL = "foreign_publication", "DROP PUBLICATION "+name
		f.Detail = "its subscribers get no more changes after the cutover"
		f.Remedy = "publish from the target as well, and let the subscribers change over; or, if it has none: " + f.SQL + " on the source"
		found := []answer.Finding{f}
		if n.Yes && p.Options.OwnTables != "" {
			found = append(found, answer.Finding{
				Code: "publication_of_all_tables", Severity: answer.Warning, Object: n.Name,
				Detail: "publishes all tables, and so those that Crossfade keeps in schema crossfade: a subscriber that lacks them stops at their first row",
				Remedy: "in the database of each subscriber: CREATE SCHEMA crossfade; " + strings.Join(strings.Fields(p.Options.OwnTables), " "),
			})
		}
		return found
	case "slot":
		f.Code, f.SQL = "foreign_slot", "SELECT pg_drop_replication_slot("+pg.QuoteLiteral(n.Name)+")"
		f.Detail = n.Is + ", not being read; its reader gets no more changes after the cutover"
		if n.Yes {
			f.Detail = n.Is + ", being read; its reader gets no more changes after the cutover"
		}
		f.Remedy = "plan how its reader changes over to the target; or, if it has none: " + f.SQL + " on the source"
	case "subscription":
		const writes = "it writes to the source and bypasses the proxy, and the fence does not stop it: what it writes after the fence would be lost"
		if n.Yes {
			f.Code, f.Detail = "active_subscription", writes
			f.SQL = "ALTER SUBSCRIPTION " + name + " DISABLE"
			f.Remedy = f.SQL + " on the source, and subscribe from the target after the switch"
			if p.Options.Mode == inquiry.Run {
				f.Severity = answer.Blocker
			}
			break
		}
		f.Code, f.Detail = "foreign_subscription", "it is disabled; enabled, "+writes
		f.SQL = "ALTER SUBSCRIPTION " + name + " SET (slot_name = NONE);\nDROP SUBSCRIPTION " + name
		f.Remedy = "leave it disabled, and subscribe from the target after the switch; or drop it, which leaves its slot at the publisher for the target's: " + answer.OneLine(f.SQL) + " on the source"
	}
	return []answer.Finding{f}
}
