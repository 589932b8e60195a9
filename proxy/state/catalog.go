package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"crossfade/internal/base/pg"
	"crossfade/proxy/wire"
)

// catalogQuery returns every text of the database in which a custom setting can be named:
// functions, views, policies, defaults, triggers, rules, constraints, and settings of roles and
// databases. The second column says what the object is if the application made it, and is NULL if
// it belongs to an extension: what an extension does in its functions concerns only the extension.
const catalogQuery = `
SELECT pg_catalog.pg_get_functiondef(p.oid), CASE WHEN n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) 'crossfade' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char")
  THEN pg_catalog.concat('function ', n.nspname, '.', p.proname) END
  FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
  WHERE l.lanname::pg_catalog.text OPERATOR(pg_catalog.<>) ALL (ARRAY['c', 'internal']::pg_catalog.text[])
  AND p.prokind OPERATOR(pg_catalog.=) ANY (ARRAY['f', 'p']::pg_catalog."char"[])
  AND p.pronamespace OPERATOR(pg_catalog.<>) ALL (` + systemSchemas + `)
UNION ALL SELECT pg_catalog.pg_get_viewdef(c.oid), pg_catalog.concat('view ', c.oid::pg_catalog.regclass) FROM pg_catalog.pg_class AS c
  WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['v', 'm']::pg_catalog."char"[])
  AND c.relnamespace OPERATOR(pg_catalog.<>) ALL (` + systemSchemas + `)
UNION ALL SELECT pg_catalog.pg_get_expr(polqual, polrelid), pg_catalog.concat('policy ', polname) FROM pg_catalog.pg_policy
UNION ALL SELECT pg_catalog.pg_get_expr(polwithcheck, polrelid), pg_catalog.concat('policy ', polname) FROM pg_catalog.pg_policy
UNION ALL SELECT pg_catalog.pg_get_expr(adbin, adrelid), pg_catalog.concat('a default of ', adrelid::pg_catalog.regclass) FROM pg_catalog.pg_attrdef
  WHERE adbin::pg_catalog.text OPERATOR(pg_catalog.~) '` + namingCall + `'
UNION ALL SELECT pg_catalog.pg_get_triggerdef(oid), pg_catalog.concat('trigger ', tgname) FROM pg_catalog.pg_trigger WHERE tgqual IS NOT NULL
UNION ALL SELECT pg_catalog.pg_get_constraintdef(oid), pg_catalog.concat('constraint ', conname) FROM pg_catalog.pg_constraint WHERE contype OPERATOR(pg_catalog.=) 'c'::pg_catalog."char"
UNION ALL SELECT pg_catalog.pg_get_ruledef(oid), pg_catalog.concat('rule ', rulename) FROM pg_catalog.pg_rewrite WHERE ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog."char"
  AND oid OPERATOR(pg_catalog.>=) '16384'::pg_catalog.oid
UNION ALL SELECT pg_catalog.concat('SET ', s), NULL FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) AS s`

// namingCall matches the node tree of an expression that calls current_setting,
// set_config or a function that is not built in. Only such defaults are written out:
// PostgreSQL takes time quadratic in the number of columns for each of them, which
// for a table of 1,600 columns with defaults is a minute.
const namingCall = `:funcid (2077|2078|3294|[1-9][0-9]{4,}) `

const systemSchemas = `SELECT oid FROM pg_catalog.pg_namespace WHERE nspname::pg_catalog.text OPERATOR(pg_catalog.=)` +
	` ANY (ARRAY['pg_catalog', 'information_schema']::pg_catalog.text[])`

// extensionQuery returns the functions that list the connections of a session.
const extensionQuery = `
SELECT n.nspname, p.proname FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
  JOIN pg_catalog.pg_depend AS d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
    AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
  WHERE p.proname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (ARRAY['dblink_get_connections', 'postgres_fdw_get_connections']::pg_catalog.text[])
  AND p.pronargs OPERATOR(pg_catalog.=) '0'::pg_catalog.int2`

// Catalog is what a database itself says of custom settings. Immutable.
type Catalog struct {
	Names []string // those that its policies, functions and views name
	// Computed says why any session may have settings whose names are not known: a function of the
	// application computes the name. "" when there is none.
	Computed string
	// Dblink and FDW are the quoted names of dblink_get_connections and
	// postgres_fdw_get_connections, "" where the extension is not there.
	Dblink, FDW string
}

// ReadCatalog reads the catalog of the database. It is done once per database and
// attempt, over a connection of our own.
func (l *Link) ReadCatalog(ctx context.Context) (*Catalog, error) {
	var n Names
	c := &Catalog{}
	var computed []string
	l.add(unit{labels: []string{"read names of settings from the catalog"}, row: func(cols [][]byte) error {
		if len(cols) != 2 {
			return errors.New("rows of another form")
		}
		if !containsSet(cols[0]) {
			return nil
		}
		if why := n.Definition(string(cols[0])); why != "" && cols[1] != nil {
			computed = append(computed, string(cols[1]))
		}
		return nil
	}}, func(dst []byte) []byte {
		dst = wire.AppendParse(dst, "", catalogQuery, nil)
		dst = wire.AppendBind(dst, "", "", nil, nil, []int16{0})
		dst = wire.AppendExecute(dst, "", 0)
		return wire.AppendSync(dst)
	})
	l.Command("look for extensions", extensionQuery, nil, func(cols [][]byte) error {
		if len(cols) != 2 {
			return errors.New("rows of another form")
		}
		name := pg.Name{Schema: string(cols[0]), Name: string(cols[1])}
		switch name.Name {
		case "dblink_get_connections":
			c.Dblink = name.String()
		case "postgres_fdw_get_connections":
			c.FDW = name.String()
		}
		return nil
	})
	if err := l.Flush(ctx); err != nil {
		return nil, err
	}
	c.Names = n.List()
	if len(computed) > 0 {
		slices.Sort(computed)
		c.Computed = computed[0] + " computes the names of settings"
		if more := len(computed) - 1; more > 0 {
			c.Computed = fmt.Sprintf("%s and %d more compute the names of settings", computed[0], more)
		}
	}
	return c, nil
}

// resolveQuery finds the OIDs that types have on this server.
const resolveQuery = `SELECT i.n::pg_catalog.int8, t.oid::pg_catalog.int8` +
	` FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) WITH ORDINALITY AS i(s, t, n),` +
	` pg_catalog.pg_namespace AS ns, pg_catalog.pg_type AS t` +
	` WHERE ns.nspname::pg_catalog.text OPERATOR(pg_catalog.=) i.s AND t.typnamespace OPERATOR(pg_catalog.=) ns.oid` +
	` AND t.typname::pg_catalog.text OPERATOR(pg_catalog.=) i.t`

// resolve returns the OIDs on this server of the users' types that the plan's
// statements take. A type that is missing here is an error.
func (l *Link) resolve(ctx context.Context, p *Plan) (map[Type]uint32, error) {
	statements := p.prepare
	if p.unnamed != nil {
		statements = append(slices.Clone(statements), *p.unnamed)
	}
	oids, err := l.lookUp(ctx, statements)
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
func (l *Link) lookUp(ctx context.Context, statements []Statement) (map[Type]uint32, error) {
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
	return oids, l.Flush(ctx)
}
