package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/proxy/wire"
)

// CaptureSpec says what a capture reads, beyond what the server lists by itself.
type CaptureSpec struct {
	Login string   // role that the proxy logged in as
	Names []string // custom settings, ASCII
	// Known are settings to be returned whatever their origin, where this server knows them.
	Known  []string
	Opaque string // why Names may not be all of them
	// Declared says that the operator has named what Opaque speaks of.
	Declared bool
	// Dblink and FDW are the functions that list connections of dblink and of
	// postgres_fdw, quoted; "" where there is none.
	Dblink, FDW string
	// Inserted says that the client's last command was an INSERT.
	Inserted bool
	// Backends says that the client has named backends by their numbers.
	Backends bool
	// Unnamed is the client's unnamed statement, nil when there is none; UnnamedLost says that
	// there is one whose text is not known.
	Unnamed     *wire.Parse
	UnnamedLost bool
}

// Capture returns what the server's session carries, and leaves it as it was. It
// is one round trip: Parse of a named statement, Bind, Execute, Close, Sync.
func (l *Link) Capture(ctx context.Context, look CaptureSpec) (*State, error) {
	b := stateBuilder{
		state: &State{
			Login: look.Login, Opaque: look.Opaque, Declared: look.Declared, Inserted: look.Inserted, Backends: look.Backends, UnknownPS: look.UnnamedLost,
			Settings: map[string]Setting{}, Custom: map[string]string{}, Statements: map[string]Statement{},
			Channels: map[string]struct{}{}, Locks: map[Lock]struct{}{},
		},
		types: map[uint32]Type{},
	}
	params := look.params(l.Params)
	l.add(unit{labels: []string{"capture"}, row: b.row}, func(dst []byte) []byte {
		dst = wire.AppendClose(dst, 'S', captureName)
		dst = wire.AppendParse(dst, captureName, captureQuery, captureTypes)
		dst = wire.AppendBind(dst, "", captureName, []int16{0, 0, 0, 0, 1, 0}, params, []int16{1})
		dst = wire.AppendExecute(dst, "", 0)
		dst = wire.AppendClose(dst, 'S', captureName)
		return wire.AppendSync(dst)
	})
	l.count("dblink", look.Dblink, "pg_catalog.unnest("+look.Dblink+"())", &b.state.Dblink)
	l.count("postgres_fdw", look.FDW, look.FDW+"()", &b.state.FDW)
	if err := l.Flush(ctx); err != nil {
		return nil, errors.Join(err, l.forget(ctx, captureName))
	}
	return b.finish(look)
}

// CaptureSpec says what a capture of the state's mirror reads: also the settings of
// libraries, which a server that has not loaded the library holds as custom ones.
func (s *State) CaptureSpec(login string, names []string) CaptureSpec {
	look := CaptureSpec{Login: login, Names: slices.Clone(names)}
	for name := range s.Settings {
		look.Known = append(look.Known, name)
		if custom(name) {
			look.Names = append(look.Names, sqltext.Lower(name))
		}
	}
	return look
}

// count queues a query for how many rows a function of an extension returns, if that exists. A role
// that may not call it has nothing that it lists.
func (l *Link) count(what, function, rows string, n *int64) {
	if function == "" {
		return
	}
	l.Command("count connections of "+what, "SELECT pg_catalog.count(*) FROM "+rows, nil, func(cols [][]byte) error {
		if len(cols) != 1 || len(cols[0]) != 8 {
			return errors.New("rows of another form")
		}
		*n = int64(binary.BigEndian.Uint64(cols[0]))
		return nil
	})
	l.units[len(l.units)-1].refused = func(*wire.ServerError) error { return nil }
}

// forget closes a statement of ours that an error may have left open.
func (l *Link) forget(ctx context.Context, name string) error {
	if l.broken != nil {
		return nil
	}
	l.add(unit{labels: []string{"close " + name}}, func(dst []byte) []byte {
		return wire.AppendSync(wire.AppendClose(dst, 'S', name))
	})
	return l.Flush(ctx)
}

func (look CaptureSpec) params(reported map[string]string) [][]byte {
	var oids []string
	var text, encoding []byte
	if look.Unnamed != nil {
		for _, oid := range look.Unnamed.OIDs {
			if oid >= firstUserOID {
				oids = append(oids, strconv.FormatUint(uint64(oid), 10))
			}
		}
		if !ASCII(look.Unnamed.Query) && reported["client_encoding"] != reported["server_encoding"] {
			text, encoding = []byte(look.Unnamed.Query), []byte(reported["client_encoding"])
		}
	}
	return [][]byte{
		ArrayLiteral(look.Names), []byte(captureName), ArrayLiteral(oids), ArrayLiteral(append(slices.Clone(Pinned), look.Known...)), text, encoding,
	}
}

// ArrayLiteral writes a one-dimensional array in its text form.
func ArrayLiteral(items []string) []byte {
	b := []byte{'{'}
	for i, s := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for j := 0; j < len(s); j++ {
			if s[j] == '"' || s[j] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, s[j])
		}
		b = append(b, '"')
	}
	return append(b, '}')
}

// stateBuilder makes a State of the rows of captureQuery.
type stateBuilder struct {
	state      *State
	types      map[uint32]Type
	parameters []parameter
	text       *string
}

type parameter struct {
	statement string
	position  int64
	typ       Type
}

func (b *stateBuilder) row(cols [][]byte) error {
	if len(cols) != 6 || len(cols[5]) != 8 {
		return errors.New("capture returned rows of another form")
	}
	s := b.state
	a, v, c, d := string(cols[1]), string(cols[2]), string(cols[3]), string(cols[4])
	n := int64(binary.BigEndian.Uint64(cols[5]))
	switch string(cols[0]) {
	case "me":
		s.SessionUser, s.Role, s.ServerEncoding, s.BackendPID = a, v, d, int32(n)
	case "setting":
		source, context, _ := strings.Cut(d, "/")
		s.Settings[a] = Setting{Value: v, Reset: c, Source: source, Context: context}
	case "custom":
		s.Custom[a] = v
	case "statement":
		if n < 0 || n > 1<<16 {
			return fmt.Errorf("prepared statement with %d parameters", n)
		}
		s.Statements[a] = Statement{Name: a, Text: v, FromSQL: d == "true", Types: make([]Type, n)}
	case "parameter":
		oid, err := strconv.ParseUint(d, 10, 32)
		if err != nil {
			return fmt.Errorf("read type of a parameter: %w", err)
		}
		b.parameters = append(b.parameters, parameter{a, n, Type{OID: uint32(oid), Schema: v, Name: c}})
	case "type":
		b.types[uint32(n)] = Type{OID: uint32(n), Schema: a, Name: v}
	case "text":
		b.text = &a
	case "cursor":
		s.HeldCursors = append(s.HeldCursors, strconv.Quote(a))
	case "channel":
		s.Channels[a] = struct{}{}
	case "lock":
		return b.lock(d)
	case "temp":
		s.TempObjects = append(s.TempObjects, d+" "+strconv.Quote(a))
	}
	return nil
}

func (b *stateBuilder) lock(d string) error {
	f := strings.Split(d, "/")
	if len(f) != 4 {
		return errors.New("advisory lock of another form")
	}
	class, err1 := strconv.ParseUint(f[0], 10, 32)
	object, err2 := strconv.ParseUint(f[1], 10, 32)
	sub, err3 := strconv.ParseInt(f[2], 10, 16)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("read advisory lock: %w", err)
	}
	b.state.Locks[Lock{Class: uint32(class), Object: uint32(object), Sub: int16(sub), Shared: f[3] == "ShareLock"}] = struct{}{}
	return nil
}

func (b *stateBuilder) finish(look CaptureSpec) (*State, error) {
	s := b.state
	if s.ServerEncoding == "" {
		return nil, errors.New("capture returned nothing")
	}
	for _, p := range b.parameters {
		st, ok := s.Statements[p.statement]
		if !ok || p.position < 1 || p.position > int64(len(st.Types)) {
			return nil, fmt.Errorf("parameter %d of prepared statement %q is out of range", p.position, p.statement)
		}
		st.Types[p.position-1] = p.typ
	}
	if look.Unnamed != nil {
		u := &Statement{Text: look.Unnamed.Query}
		if b.text != nil {
			u.Text = *b.text
		}
		for _, oid := range look.Unnamed.OIDs {
			t := Type{OID: oid}
			if oid >= firstUserOID {
				t = b.types[oid]
				t.OID = oid
			}
			u.Types = append(u.Types, t)
		}
		s.Unnamed = u
	}
	return s, nil
}

// captureName is the name of our own prepared statement while it exists.
const captureName = "_crossfade_capture"

// Parameters of captureQuery, and their types.
//
//	$1 text[]  names of custom settings to look at
//	$2 text    name of our own statement, left out
//	$3 oid[]   types to look up
//	$4 text[]  settings to return whatever their origin
//	$5 bytea   text to convert to the encoding of the database, or NULL
//	$6 name    encoding of $5
var captureTypes = []uint32{1009, 25, 1028, 1009, 17, 19}

// captureQuery returns everything that a session carries and its server knows, as rows (kind, a, b,
// c, d, n). Names and texts are in the database's own encoding (raw), so that no client_encoding
// can change or refuse them. Every name is qualified with its schema, operators and types too: the
// client owns the search_path. It sets nothing, locks nothing and leaves nothing behind.
var captureQuery = buildCapture()

func buildCapture() string {
	none := "NULL::pg_catalog.bytea"
	row := func(kind, a, b, c, d, n, rest string) string {
		return "(SELECT '" + kind + "'::pg_catalog.text, " + a + ", " + b + ", " + c + ", " + d + "::pg_catalog.text, " + n + "::pg_catalog.int8" + rest + ")"
	}
	return strings.Join([]string{
		row("me", raw("session_user"), raw("pg_catalog.current_setting('role')"), none,
			"pg_catalog.getdatabaseencoding()", "pg_catalog.pg_backend_pid()", ""),
		row("setting", raw("name"), raw("setting"), raw("reset_val"), "pg_catalog.concat(source, '/', context)", "0",
			" FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) ANY (ARRAY['session', 'client']::pg_catalog.text[])"+
				" OR name OPERATOR(pg_catalog.=) ANY ($4) OR name OPERATOR(pg_catalog.=) 'client_encoding'"),
		row("custom", raw("k"), raw("v"), none, "''", "0",
			" FROM (SELECT k, pg_catalog.current_setting(k, true) AS v FROM pg_catalog.unnest($1) AS k) AS x WHERE v IS NOT NULL"),
		row("statement", raw("name"), raw("statement"), none, "from_sql", "pg_catalog.cardinality(parameter_types)",
			" FROM pg_catalog.pg_prepared_statements WHERE name OPERATOR(pg_catalog.<>) $2"),
		row("parameter", raw("p.name"), raw("ns.nspname"), raw("t.typname"), "u.o", "u.n",
			" FROM pg_catalog.pg_prepared_statements AS p, pg_catalog.unnest(p.parameter_types::pg_catalog.oid[]) WITH ORDINALITY AS u(o, n),"+
				" pg_catalog.pg_type AS t, pg_catalog.pg_namespace AS ns"+
				" WHERE p.name OPERATOR(pg_catalog.<>) $2 AND t.oid OPERATOR(pg_catalog.=) u.o AND ns.oid OPERATOR(pg_catalog.=) t.typnamespace"),
		row("type", raw("ns.nspname"), raw("t.typname"), none, "''", "t.oid",
			" FROM pg_catalog.pg_type AS t, pg_catalog.pg_namespace AS ns"+
				" WHERE t.oid OPERATOR(pg_catalog.=) ANY ($3) AND ns.oid OPERATOR(pg_catalog.=) t.typnamespace"),
		row("text", "pg_catalog.convert($5, $6, pg_catalog.getdatabaseencoding())", none, none, "''", "0",
			" WHERE $5 IS NOT NULL"),
		row("cursor", raw("name"), none, none, "''", "0", " FROM pg_catalog.pg_cursors WHERE is_holdable"),
		row("channel", raw("c"), none, none, "''", "0", " FROM pg_catalog.pg_listening_channels() AS c"),
		row("lock", none, none, none, "pg_catalog.concat(classid, '/', objid, '/', objsubid, '/', mode)", "0",
			" FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND granted"+
				" AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"),
		row("temp", raw("relname"), none, none, "'relation'", "0",
			" FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"+
				" AND relkind OPERATOR(pg_catalog.<>) 'i'::pg_catalog.\"char\" LIMIT 4"),
		row("temp", raw("proname"), none, none, "'function'", "0",
			" FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 4"),
		row("temp", raw("typname"), none, none, "'type'", "0",
			" FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"+
				" AND typrelid OPERATOR(pg_catalog.=) 0::pg_catalog.oid AND typelem OPERATOR(pg_catalog.=) 0::pg_catalog.oid LIMIT 4"),
		row("temp", raw("pg_catalog.pg_describe_object(classid, objid, 0)"), none, none, "'other'", "0",
			" FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"+
				" AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND classid OPERATOR(pg_catalog.<>) ALL ("+
				"ARRAY['pg_catalog.pg_class', 'pg_catalog.pg_proc', 'pg_catalog.pg_type']::pg_catalog.regclass[]) LIMIT 4"),
	}, " UNION ALL ")
}

// raw is the text of an expression as bytes in the database's encoding.
func raw(expr string) string {
	return "pg_catalog.convert_to(" + expr + "::pg_catalog.text, pg_catalog.getdatabaseencoding())"
}
