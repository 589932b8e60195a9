package session

import (
	"context"
	"errors"
	"strconv"

	"crossfade/proxy/wire"
)

// catalogQuery returns every text of the database in which a custom setting can
// be named: functions, views, policies, defaults, triggers, rules, constraints,
// and settings of roles and databases.
const catalogQuery = `
SELECT pg_catalog.pg_get_functiondef(p.oid) FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang
  WHERE l.lanname::pg_catalog.text OPERATOR(pg_catalog.<>) ALL (ARRAY['c', 'internal']::pg_catalog.text[])
  AND p.prokind OPERATOR(pg_catalog.=) ANY (ARRAY['f', 'p']::pg_catalog."char"[])
  AND p.pronamespace OPERATOR(pg_catalog.<>) ALL (` + systemSchemas + `)
UNION ALL SELECT pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class AS c
  WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['v', 'm']::pg_catalog."char"[])
  AND c.relnamespace OPERATOR(pg_catalog.<>) ALL (` + systemSchemas + `)
UNION ALL SELECT pg_catalog.pg_get_expr(polqual, polrelid) FROM pg_catalog.pg_policy
UNION ALL SELECT pg_catalog.pg_get_expr(polwithcheck, polrelid) FROM pg_catalog.pg_policy
UNION ALL SELECT pg_catalog.pg_get_expr(adbin, adrelid) FROM pg_catalog.pg_attrdef
  WHERE adbin::pg_catalog.text OPERATOR(pg_catalog.~) '` + namingCall + `'
UNION ALL SELECT pg_catalog.pg_get_triggerdef(oid) FROM pg_catalog.pg_trigger WHERE tgqual IS NOT NULL
UNION ALL SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint WHERE contype OPERATOR(pg_catalog.=) 'c'::pg_catalog."char"
UNION ALL SELECT pg_catalog.pg_get_ruledef(oid) FROM pg_catalog.pg_rewrite WHERE ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog."char"
UNION ALL SELECT pg_catalog.concat('SET ', s) FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) AS s`

// namingCall matches the node tree of an expression that calls current_setting,
// set_config or a function that is not built in. Only such defaults are written out:
// PostgreSQL takes time quadratic in the number of columns for each of them, which
// for a table of 1,600 columns with defaults is a minute.
const namingCall = `:funcid (2077|2078|3294|[1-9][0-9]{4,}) `

const systemSchemas = `SELECT oid FROM pg_catalog.pg_namespace WHERE nspname::pg_catalog.text OPERATOR(pg_catalog.=)` +
	` ANY (ARRAY['pg_catalog', 'information_schema']::pg_catalog.text[])`

// CatalogNames returns the custom settings that the database itself names: those
// that its policies, functions and views ask for. It is done once per database
// and attempt, over a connection of our own.
func (l *Link) CatalogNames(ctx context.Context) ([]string, error) {
	var n Names
	l.add(unit{labels: []string{"read names of settings from the catalog"}, row: func(cols [][]byte) error {
		if len(cols) != 1 {
			return errors.New("rows of another form")
		}
		if containsSet(cols[0]) {
			n.Definition(string(cols[0]))
		}
		return nil
	}}, func(dst []byte) []byte {
		dst = wire.AppendParse(dst, "", catalogQuery, nil)
		dst = wire.AppendBind(dst, "", "", nil, nil, []int16{0})
		dst = wire.AppendExecute(dst, "", 0)
		return wire.AppendSync(dst)
	})
	if err := l.flush(ctx); err != nil {
		return nil, err
	}
	return n.List(), nil
}

// idleQuery asks what a backend does. It is not qualified by name alone: the
// connection is our own, but its search_path is the role's.
const idleQuery = `SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity` +
	` WHERE pid OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND state OPERATOR(pg_catalog.=) 'idle'`

// Idle reports whether another backend of the same role waits for a request outside
// a transaction.
func (l *Link) Idle(ctx context.Context, pid int32) (bool, error) {
	idle := false
	l.command("look at pg_stat_activity", idleQuery, [][]byte{strconv.AppendInt(nil, int64(pid), 10)}, func(cols [][]byte) error {
		if len(cols) != 1 || len(cols[0]) != 8 {
			return errors.New("rows of another form")
		}
		idle = cols[0][7] == 1
		return nil
	})
	return idle, l.flush(ctx)
}
