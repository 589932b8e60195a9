package ask

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
)

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
