package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crossfade/proxy/wire"
)

// Look says what a capture is to look at, beyond what the server lists by itself.
type Look struct {
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
	// Unnamed is the client's unnamed statement, nil when there is none;
	// UnnamedLost says that there is one that nobody remembers.
	Unnamed     *wire.Parse
	UnnamedLost bool
}

// Capture returns what the server's session carries, and leaves it as it was. It
// is one round trip: Parse of a named statement, Bind, Execute, Close, Sync.
func (l *Link) Capture(ctx context.Context, look Look) (*State, error) {
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
	if err := l.flush(ctx); err != nil {
		return nil, errors.Join(err, l.forget(ctx, captureName))
	}
	return b.finish(look)
}

// Look says what a capture of the state's mirror is to look at: also the settings of
// libraries, which a server that has not loaded the library holds as custom ones.
func (s *State) Look(login string, names []string) Look {
	look := Look{Login: login, Names: slices.Clone(names)}
	for name := range s.Settings {
		look.Known = append(look.Known, name)
		if custom(name) {
			look.Names = append(look.Names, lowerASCII(name))
		}
	}
	return look
}

// count queues a look at how many rows a function of an extension returns, where
// there is one. A role that may not call it has nothing that it lists.
func (l *Link) count(what, function, rows string, n *int64) {
	if function == "" {
		return
	}
	l.command("count connections of "+what, "SELECT pg_catalog.count(*) FROM "+rows, nil, func(cols [][]byte) error {
		if len(cols) != 1 || len(cols[0]) != 8 {
			return errors.New("rows of another form")
		}
		*n = int64(binary.BigEndian.Uint64(cols[0]))
		return nil
	})
	l.units[len(l.units)-1].refused = func(*wire.ServerError) error { return nil }
}

// forget closes a statement of ours that an error may have left behind.
func (l *Link) forget(ctx context.Context, name string) error {
	if l.broken != nil {
		return nil
	}
	l.add(unit{labels: []string{"close " + name}}, func(dst []byte) []byte {
		return wire.AppendSync(wire.AppendClose(dst, 'S', name))
	})
	return l.flush(ctx)
}

func (look Look) params(reported map[string]string) [][]byte {
	var oids []string
	var text, encoding []byte
	if look.Unnamed != nil {
		for _, oid := range look.Unnamed.OIDs {
			if oid >= firstUserOID {
				oids = append(oids, strconv.FormatUint(uint64(oid), 10))
			}
		}
		if !ascii(look.Unnamed.Query) && reported["client_encoding"] != reported["server_encoding"] {
			text, encoding = []byte(look.Unnamed.Query), []byte(reported["client_encoding"])
		}
	}
	return [][]byte{
		arrayLiteral(look.Names), []byte(captureName), arrayLiteral(oids), arrayLiteral(append(slices.Clone(Pinned), look.Known...)), text, encoding,
	}
}

// arrayLiteral writes a one-dimensional array in its text form.
func arrayLiteral(items []string) []byte {
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

func (b *stateBuilder) finish(look Look) (*State, error) {
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
