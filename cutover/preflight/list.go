package preflight

import (
	"context"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
)

// question is a check of a room, by the name that it has in a report.
type question struct {
	name  string
	ask   func(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error)
	first bool // as of Check
}

// ofBoth are asked for a copy and for a run, in the order of the report.
var ofBoth = []question{
	{name: "one database", ask: OneDatabase, first: true},
	{name: "left over run", ask: LeftOver, first: true},
	{name: "host", ask: Hosts},
	{name: "version", ask: Versions},
	{name: "encoding", ask: Encodings},
	{name: "collation", ask: Collations},
	{name: "source privileges", ask: OnSource},
	{name: "sequence privileges", ask: OnSequences},
	{name: "row security", ask: RowSecurity},
	{name: "role settings", ask: RoleSettings},
	{name: "target privileges", ask: OnTarget},
	{name: "target empty", ask: TargetEmpty},
	{name: "room", ask: Room},
	{name: "extensions", ask: Compare},
	{name: "roles of the schema", ask: Grantees},
	{name: "objects for superusers", ask: SuperuserObjects},
	{name: "event triggers", ask: EventTriggers},
	{name: "workers", ask: Workers},
	{name: "materialised views", ask: MaterialisedViews},
	{name: "partitions", ask: Partitions},
	{name: "expressions", ask: Try},
	{name: "unlogged tables", ask: UnloggedTables},
	{name: "large objects", ask: LargeObjects},
	{name: "prepared transactions", ask: PreparedTransactions},
	{name: "old snapshots", ask: OldSnapshots},
	{name: "capacity", ask: Capacity},
}

// ofRun are asked for a run alone, after those.
var ofRun = []question{
	{name: "logins", ask: CheckLogins},
	{name: "connections", ask: Connections},
	{name: "wal_level", ask: WALLevel},
	{name: "replication", ask: Replication},
	{name: "replica identity", ask: ReplicaIdentity},
	{name: "retention", ask: Retention},
	{name: "long transactions", ask: LongTransactions},
	{name: "neighbours", ask: Neighbours},
	{name: "numbers of backends", ask: BackendNumbers},
	{name: "way back", ask: Fallback},
}
