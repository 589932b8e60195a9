package preflight

import (
	"context"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/database"
	"crossfade/cutover/preflight/expression"
	"crossfade/cutover/preflight/extension"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/loginrole"
	"crossfade/cutover/preflight/privilege"
	"crossfade/cutover/preflight/server"
)

// question is a check of a package, by the name that it has in a report.
type question struct {
	name  string
	ask   func(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error)
	first bool // as of Check
}

// ofBoth are asked for a copy and for a run, in the order of the report.
var ofBoth = []question{
	{name: "one database", ask: database.OneDatabase, first: true},
	{name: "left over run", ask: database.LeftOver, first: true},
	{name: "host", ask: server.Hosts},
	{name: "version", ask: server.Versions},
	{name: "encoding", ask: database.Encodings},
	{name: "collation", ask: database.Collations},
	{name: "source privileges", ask: privilege.OnSource},
	{name: "sequence privileges", ask: privilege.OnSequences},
	{name: "row security", ask: privilege.RowSecurity},
	{name: "role settings", ask: privilege.RoleSettings},
	{name: "target privileges", ask: privilege.OnTarget},
	{name: "target empty", ask: database.TargetEmpty},
	{name: "room", ask: server.DiskSpace},
	{name: "extensions", ask: extension.Compare},
	{name: "roles of the schema", ask: privilege.Grantees},
	{name: "objects for superusers", ask: privilege.SuperuserObjects},
	{name: "event triggers", ask: database.EventTriggers},
	{name: "workers", ask: extension.Workers},
	{name: "materialised views", ask: database.MaterialisedViews},
	{name: "partitions", ask: database.Partitions},
	{name: "expressions", ask: expression.Try},
	{name: "unlogged tables", ask: database.UnloggedTables},
	{name: "large objects", ask: database.LargeObjects},
	{name: "prepared transactions", ask: server.PreparedTransactions},
	{name: "old snapshots", ask: server.OldSnapshots},
	{name: "capacity", ask: server.Capacity},
}

// ofRun are asked for a run alone, after those.
var ofRun = []question{
	{name: "logins", ask: loginrole.Check},
	{name: "connections", ask: server.Connections},
	{name: "wal_level", ask: server.WALLevel},
	{name: "replication", ask: server.Replication},
	{name: "replica identity", ask: database.ReplicaIdentity},
	{name: "retention", ask: server.Retention},
	{name: "long transactions", ask: server.LongTransactions},
	{name: "neighbours", ask: server.Neighbours},
	{name: "numbers of backends", ask: database.BackendNumbers},
	{name: "way back", ask: server.Fallback},
}
