package ask

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// ReadPins returns what every setting that changes results is in a session that has
// just begun and asked for nothing: all of Pinned, the custom settings that a role, a
// database or the server gives to its sessions, and the role that it becomes.
func ReadPins(ctx context.Context, l *state.Link, login string) ([]wire.Param, error) {
	catalog, err := l.ReadCatalog(ctx)
	if err != nil {
		return nil, err
	}
	now, err := l.Capture(ctx, state.CaptureSpec{Login: login, Names: catalog.Names})
	if err != nil {
		return nil, err
	}
	var pins []wire.Param
	if now.Role != "none" { // by ALTER ROLE … SET role: what DISCARD ALL goes back to
		pins = append(pins, wire.Param{Name: "role", Value: now.Role})
	}
	for _, name := range state.Pinned {
		if v, ok := now.Settings[name]; ok {
			pins = append(pins, wire.Param{Name: name, Value: v.Reset})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now.Custom)) {
		if _, library := now.Settings[name]; !library && state.ASCII(now.Custom[name]) {
			pins = append(pins, wire.Param{Name: name, Value: now.Custom[name]})
		}
	}
	return pins, nil
}

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
	err := l.Flush(ctx) // which fills the list
	return list, err
}

// typesQuery lists the types that are not PostgreSQL's own (pg_type, pg_range;
// PostgreSQL documentation 53.64 and 53.41). An array goes by the name of its element.
// %s is the expression for the subtype of a multirange, which came with version 14.
const typesQuery = `SELECT t.oid::pg_catalog.int8,` +
	` pg_catalog.convert_to(n.nspname::pg_catalog.text, pg_catalog.getdatabaseencoding()),` +
	` pg_catalog.convert_to(coalesce(e.typname, t.typname)::pg_catalog.text, pg_catalog.getdatabaseencoding()),` +
	` CASE WHEN e.oid IS NOT NULL THEN 'a' ELSE t.typtype::pg_catalog.text END,` +
	` CASE WHEN e.oid IS NOT NULL THEN e.oid WHEN t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog."char" THEN t.typbasetype` +
	` ELSE coalesce(r.rngsubtype, %s, 0::pg_catalog.oid) END::pg_catalog.int8` +
	` FROM pg_catalog.pg_type AS t` +
	` LEFT JOIN pg_catalog.pg_type AS e ON e.oid OPERATOR(pg_catalog.=) t.typelem AND e.typarray OPERATOR(pg_catalog.=) t.oid` +
	` LEFT JOIN pg_catalog.pg_range AS r ON r.rngtypid OPERATOR(pg_catalog.=) t.oid` +
	` JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) coalesce(e.typnamespace, t.typnamespace)` +
	` WHERE t.oid OPERATOR(pg_catalog.>=) '16384'::pg_catalog.oid` +
	` AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) ALL (ARRAY['crossfade', 'pg_toast']::pg_catalog.text[])` +
	` AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)`

const multirangeOf = `(SELECT m.rngsubtype FROM pg_catalog.pg_range AS m WHERE m.rngmultitypid OPERATOR(pg_catalog.=) t.oid)`

// firstMultirange is the major version that has multiranges.
const firstMultirange = 14

// Types returns the types of the database that are not PostgreSQL's own.
func Types(ctx context.Context, l *state.Link) ([]typemap.Type, error) {
	multirange := multirangeOf
	var major int
	if _, err := fmt.Sscanf(l.Params["server_version"], "%d", &major); err != nil || major < firstMultirange {
		multirange = "NULL::pg_catalog.oid"
	}
	var list []typemap.Type
	l.Command("list types", fmt.Sprintf(typesQuery, multirange), nil, func(cols [][]byte) error {
		if len(cols) != 5 || len(cols[0]) != 8 || len(cols[3]) != 1 || len(cols[4]) != 8 {
			return errors.New("rows of another form")
		}
		list = append(list, typemap.Type{
			OID: uint32(binary.BigEndian.Uint64(cols[0])), Schema: string(cols[1]), Name: string(cols[2]),
			Kind: typemap.Kind(cols[3][0]), Elem: uint32(binary.BigEndian.Uint64(cols[4])),
		})
		return nil
	})
	err := l.Flush(ctx)
	return list, err
}
