package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"crossfade/internal/base/pg"
)

// resolveQuery finds the OIDs that types have on this server.
const resolveQuery = `SELECT i.n::pg_catalog.int8, t.oid::pg_catalog.int8` +
	` FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) WITH ORDINALITY AS i(s, t, n),` +
	` pg_catalog.pg_namespace AS ns, pg_catalog.pg_type AS t` +
	` WHERE ns.nspname::pg_catalog.text OPERATOR(pg_catalog.=) i.s AND t.typnamespace OPERATOR(pg_catalog.=) ns.oid` +
	` AND t.typname::pg_catalog.text OPERATOR(pg_catalog.=) i.t`

// resolve returns the OIDs on this server of the users' types that the plan's
// statements take. A type that is missing here is an error.
func (l *Link) resolve(ctx context.Context, p *Plan) (map[Type]uint32, error) {
	statements := append([]Statement(nil), p.prepare...)
	if p.unnamed != nil {
		statements = append(statements, *p.unnamed)
	}
	oids, err := l.lookUp(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, s := range statements {
		for i, t := range s.Types {
			switch {
			case t.OID < firstUserOID || s.FromSQL:
			case t.Name == "":
				return nil, &StepError{Step: fmt.Sprintf("prepared statement %q", s.Name), Err: fmt.Errorf("the type of its parameter $%d no longer exists", i+1)}
			case oids[Type{Schema: t.Schema, Name: t.Name}] == 0:
				return nil, &StepError{Step: "look up types", Err: fmt.Errorf("type %s does not exist on the other side", pg.Name{Schema: t.Schema, Name: t.Name}.Display())}
			}
		}
	}
	return oids, nil
}

// lookUp returns the OIDs on this server of those users' types that are here.
func (l *Link) lookUp(ctx context.Context, p *Plan) (map[Type]uint32, error) {
	statements := p.prepare
	if p.unnamed != nil {
		statements = append(append([]Statement(nil), statements...), *p.unnamed)
	}
	oids := map[Type]uint32{}
	var list []Type
	var schemas, names []string
	for _, s := range statements {
		for _, t := range s.Types {
			key := Type{Schema: t.Schema, Name: t.Name}
			if t.OID < firstUserOID || t.Name == "" {
				continue
			}
			if _, seen := oids[key]; !seen {
				oids[key] = 0
				list, schemas, names = append(list, key), append(schemas, t.Schema), append(names, t.Name)
			}
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	l.Command("look up types", resolveQuery, [][]byte{ArrayLiteral(schemas), ArrayLiteral(names)}, func(cols [][]byte) error {
		if len(cols) != 2 || len(cols[0]) != 8 || len(cols[1]) != 8 {
			return errors.New("rows of another form")
		}
		if n := binary.BigEndian.Uint64(cols[0]); n >= 1 && n <= uint64(len(list)) {
			oids[list[n-1]] = uint32(binary.BigEndian.Uint64(cols[1]))
		}
		return nil
	})
	if err := l.Flush(ctx); err != nil {
		return nil, err
	}
	return oids, nil
}
