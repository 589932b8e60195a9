package ask

import (
	"context"
	"encoding/binary"
	"errors"

	"crossfade/proxy/state"
)

// ConnLimit is one of a server's limits on connections.
type ConnLimit struct {
	Kind  string // LimitOfRole, LimitOfDatabase or LimitOfServer
	Name  string // of the role or the database
	Limit int64  // negative for none
	Used  int64
}

// Kinds of limits.
const (
	LimitOfRole     = "role"
	LimitOfDatabase = "database"
	LimitOfServer   = "server"
)

// connLimitsQuery returns the limits of some roles, of the database and of the server. What kind
// of session another role's is, not everybody may see: then it counts.
const connLimitsQuery = `SELECT 'role'::pg_catalog.text, r.rolname::pg_catalog.text, CASE WHEN r.rolsuper THEN (-1)::pg_catalog.int8 ELSE r.rolconnlimit::pg_catalog.int8 END,` +
	` (SELECT pg_catalog.count(*) FROM ` + clientsNow + ` WHERE a.usesysid OPERATOR(pg_catalog.=) r.oid)` +
	` FROM pg_catalog.pg_roles AS r WHERE r.rolname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])` +
	` UNION ALL SELECT 'database', d.datname::pg_catalog.text, d.datconnlimit::pg_catalog.int8,` +
	` (SELECT pg_catalog.count(*) FROM ` + clientsNow + ` WHERE a.datid OPERATOR(pg_catalog.=) d.oid)` +
	` FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()` +
	` UNION ALL SELECT 'server', '', pg_catalog.current_setting('max_connections')::pg_catalog.int8` +
	` OPERATOR(pg_catalog.-) pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int8` +
	` OPERATOR(pg_catalog.-) COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int8,` +
	` (SELECT pg_catalog.count(*) FROM ` + clientsNow + `)`

const clientsNow = `(SELECT usesysid, datid FROM pg_catalog.pg_stat_activity WHERE usesysid IS NOT NULL AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()` +
	` AND (backend_type IS NULL OR backend_type OPERATOR(pg_catalog.=) 'client backend')) AS a`

// ConnLimits returns the limits on connections of some roles, of the database and of the server,
// with how much of each is used now, not counting this connection.
func ConnLimits(ctx context.Context, l *state.Link, roles []string) ([]ConnLimit, error) {
	var list []ConnLimit
	l.Command("look for room for connections", connLimitsQuery, [][]byte{state.ArrayLiteral(roles)}, func(cols [][]byte) error {
		if len(cols) != 4 || len(cols[2]) != 8 || len(cols[3]) != 8 {
			return errors.New("rows of another form")
		}
		list = append(list, ConnLimit{Kind: string(cols[0]), Name: string(cols[1]),
			Limit: int64(binary.BigEndian.Uint64(cols[2])), Used: int64(binary.BigEndian.Uint64(cols[3]))})
		return nil
	})
	return list, l.Flush(ctx)
}
