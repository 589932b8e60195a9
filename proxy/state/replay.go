package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/proxy/wire"
)

// stepName is the name of the statement with which a replay runs what it runs.
const stepName = "_crossfade_step"

const settingLabel = "setting "

// Replay executes the plan, pipelined: settings in one unit, each prepared statement in a unit of
// its own, since after a refused one the server skips everything up to the next Sync. The error
// names the step. What was done before the error stays done, so the connection should be dropped
// then.
func (l *Link) Replay(ctx context.Context, p *Plan) error {
	if p.encoding != "" {
		l.assign([]assignment{{name: "client_encoding", value: p.encoding}})
	}
	oids, err := l.resolve(ctx, p)
	if err != nil {
		return err
	}
	l.shared(p.unlock, "pg_advisory_unlock", "release advisory lock")
	for _, c := range p.unlisten {
		l.Command("unlisten "+c, "UNLISTEN "+pg.QuoteIdent(c), nil, nil)
	}
	l.assign(append(append([]assignment(nil), p.early...), p.settings...))
	var first error
	step := func() {
		if l.full() && first == nil {
			first = l.Flush(ctx)
		}
	}
	for _, name := range p.drop {
		l.add(unit{labels: []string{fmt.Sprintf("close prepared statement %q", name)}}, func(dst []byte) []byte {
			return wire.AppendSync(wire.AppendClose(dst, 'S', name))
		})
		step()
	}
	for _, s := range p.prepare {
		if err := l.prepare(s, p.locals[s.Name], oids); first == nil {
			first = err
		}
		step()
	}
	for _, c := range p.listen {
		l.Command("listen "+c, "LISTEN "+pg.QuoteIdent(c), nil, nil)
		step()
	}
	l.shared(p.lock, "pg_try_advisory_lock", "take advisory lock")
	l.assign(p.late)
	if p.unnamed != nil {
		l.parse("unnamed prepared statement", *p.unnamed, p.locals[""], oids)
	} else if p.clearUnnamed {
		l.add(unit{labels: []string{"close unnamed statement"}}, func(dst []byte) []byte {
			return wire.AppendSync(wire.AppendClose(dst, 'S', ""))
		})
	}
	if err := l.Flush(ctx); first == nil {
		first = err
	}
	return first
}

// Ping makes one round trip that runs nothing.
func (l *Link) Ping(ctx context.Context) error {
	l.add(unit{labels: []string{"ping"}}, wire.AppendSync)
	return l.Flush(ctx)
}

// assign queues settings as one unit: all of them or none.
func (l *Link) assign(list []assignment) {
	if len(list) == 0 {
		return
	}
	l.add(unit{labels: labels(list)}, func(dst []byte) []byte {
		return wire.AppendSync(appendSettings(dst, list, "false"))
	})
}

func labels(list []assignment) []string {
	return lists.Map(list, func(a assignment) string { return settingLabel + a.name })
}

// appendSettings appends what makes the settings; local is "true" where they are to
// end with the unit.
func appendSettings(dst []byte, list []assignment, local string) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = wire.AppendClose(dst, 'S', stepName)
	dst = wire.AppendParse(dst, stepName, "SELECT pg_catalog.set_config($1, $2, "+local+")", []uint32{25, 25})
	for _, a := range list {
		value := []byte(a.value)
		if a.reset {
			value = nil // the setting's default
		} else if value == nil {
			value = []byte{}
		}
		dst = wire.AppendBind(dst, "", stepName, nil, [][]byte{[]byte(a.name), value}, nil)
		dst = wire.AppendExecute(dst, "", 0)
	}
	return wire.AppendClose(dst, 'S', stepName)
}

// Command queues one statement as a unit, through a named statement so that the unnamed one is
// kept.
func (l *Link) Command(label, sql string, params [][]byte, row func([][]byte) error) {
	l.add(unit{labels: []string{label}, row: row}, func(dst []byte) []byte {
		dst = wire.AppendClose(dst, 'S', stepName)
		dst = wire.AppendParse(dst, stepName, sql, nil)
		dst = wire.AppendBind(dst, "", stepName, nil, params, []int16{1})
		dst = wire.AppendExecute(dst, "", 0)
		dst = wire.AppendClose(dst, 'S', stepName)
		return wire.AppendSync(dst)
	})
}

var errNotGranted = errors.New("the server says no")

// shared queues taking or releasing advisory locks; each must be granted.
func (l *Link) shared(locks []Lock, function, label string) {
	for _, k := range locks {
		name := function
		if k.Shared {
			name += "_shared"
		}
		args := fmt.Sprintf("'%d'::pg_catalog.int4, '%d'::pg_catalog.int4", int32(k.Class), int32(k.Object))
		if k.Sub == 1 {
			args = fmt.Sprintf("'%d'::pg_catalog.int8", int64(uint64(k.Class)<<32|uint64(k.Object)))
		}
		l.Command(label, "SELECT pg_catalog."+name+"("+args+")", nil, func(cols [][]byte) error {
			if len(cols) != 1 || len(cols[0]) != 1 || cols[0][0] == 0 {
				return errNotGranted
			}
			return nil
		})
	}
}

// prepare queues the preparation of a statement under settings of its own.
func (l *Link) prepare(s Statement, locals []assignment, oids map[Type]uint32) error {
	label := fmt.Sprintf("prepared statement %q", s.Name)
	if !s.FromSQL {
		l.parse(label, s, locals, oids)
		return nil
	}
	sql, err := RebuildPrepare(s)
	if err != nil {
		return &StepError{Step: label, Err: err}
	}
	l.made(label, s, locals, func(dst []byte) []byte {
		dst = wire.AppendClose(dst, 'S', stepName)
		dst = wire.AppendParse(dst, stepName, sql, nil)
		dst = wire.AppendBind(dst, "", stepName, nil, nil, nil)
		dst = wire.AppendExecute(dst, "", 0)
		return wire.AppendClose(dst, 'S', stepName)
	})
	return nil
}

func (l *Link) parse(label string, s Statement, locals []assignment, oids map[Type]uint32) {
	l.made(label, s, locals, func(dst []byte) []byte {
		return wire.AppendParse(dst, s.Name, s.Text, numbers(s, oids))
	})
}

// numbers are the types of a statement's parameters on this server.
func numbers(s Statement, oids map[Type]uint32) []uint32 {
	types := make([]uint32, len(s.Types))
	for i, t := range s.Types {
		types[i] = t.OID
		if t.OID >= firstUserOID {
			types[i] = oids[Type{Schema: t.Schema, Name: t.Name}]
		}
	}
	return types
}

// made queues what makes a prepared statement, and asks what it takes and returns.
func (l *Link) made(label string, s Statement, locals []assignment, frames func(dst []byte) []byte) {
	shape := &Shape{}
	l.add(unit{labels: append(labels(locals), label), described: shape.note, done: func() {
		lists.Put(&l.Prepared, s.Name, Made{Text: s.Text, Shape: shape})
	}}, func(dst []byte) []byte {
		dst = appendSettings(dst, locals, "true")
		dst = frames(dst)
		return wire.AppendSync(wire.AppendDescribe(dst, 'S', s.Name))
	})
}

// describeUnder queues a Describe of a prepared statement under settings that end with it. It locks
// the tables of the statement, and the client waits meanwhile: so it does not wait for a lock that
// someone else has or wants.
func (l *Link) describeUnder(label string, locals []assignment, a *attempt) {
	locals = append([]assignment{{name: "lock_timeout", value: surveyLockTimeout}}, locals...)
	l.add(unit{labels: append(labels(locals), label), described: a.shape.note, refused: a.refuse}, func(dst []byte) []byte {
		dst = appendSettings(dst, locals, "true")
		return wire.AppendSync(wire.AppendDescribe(dst, 'S', a.statement.Name))
	})
}

// surveyLockTimeout bounds the wait for a lock on a table of a prepared statement,
// below PostgreSQL's deadlock_timeout.
const surveyLockTimeout = "200ms"

var errNotIsolated = errors.New("its PREPARE cannot be told apart in the text that made it")

// RebuildPrepare makes one PREPARE of a statement that was prepared by SQL. The server keeps the
// whole query string that contained the PREPARE, which must never be run again: its other
// statements would be repeated. If it is known what it was parsed under, it keeps its position,
// with only blanks before it: the server counts the position of an error from the beginning of the
// text.
func RebuildPrepare(s Statement) (string, error) {
	found, err := s.find()
	if err != nil {
		return "", err
	}
	if s.Under != nil {
		return strings.Repeat(" ", utf8.RuneCountInString(s.Text[:found.start])) + s.Text[found.start:found.end], nil
	}
	var types []string
	for i, t := range s.Types {
		if t.Name == "" {
			return "", fmt.Errorf("type %d of its parameters no longer exists", i+1)
		}
		types = append(types, pg.Name{Schema: t.Schema, Name: t.Name}.String())
	}
	prepare := "PREPARE " + pg.QuoteIdent(s.Name)
	if len(types) > 0 {
		prepare += " (" + strings.Join(types, ", ") + ")"
	}
	return prepare + " AS " + found.body, nil
}

// body is the statement that was prepared by SQL.
func (s Statement) body() (string, error) {
	found, err := s.find()
	return found.body, err
}

func (s Statement) find() (foundPrepare, error) {
	// Where strings end depends on standard_conforming_strings at that time.
	conforming, known := s.Under["standard_conforming_strings"]
	if known {
		return findPrepare(s.Text, s.Name, conforming == "off")
	}
	found, err := findPrepare(s.Text, s.Name, false)
	if err == nil && strings.Contains(s.Text, `\`) {
		if other, err := findPrepare(s.Text, s.Name, true); err != nil || other.body != found.body {
			return found, errNotIsolated
		}
	}
	return found, err
}

// foundPrepare is a PREPARE in a text.
type foundPrepare struct {
	start, end int    // its position
	body       string // what follows AS
}

// findPrepare finds the one PREPARE of this name.
func findPrepare(text, name string, escapes bool) (foundPrepare, error) {
	l := sqltext.Scanner{Src: text, Escapes: escapes}
	found, list := foundPrepare{}, 0
	for t := l.Next(); t.Kind != sqltext.End; t = l.Next() {
		begin := t.Start
		ours := t.Is("prepare")
		if ours {
			t = l.Next()
			ours = t.Name() && t.Text == name
		}
		if ours {
			t = l.Next()
			if t.Punct('(') {
				t = skipParens(&l)
			}
			ours = t.Is("as")
		}
		start, end := t.End, t.End
		for t.Kind != sqltext.End && !t.Punct(';') {
			end = t.End
			t = l.Next()
		}
		if ours {
			list++
			found = foundPrepare{begin, end, strings.TrimSpace(text[start:end])}
			first, rest := sqltext.Scanner{Src: text, Escapes: escapes}, l
			if first.Next().Start == begin && rest.Next().Kind == sqltext.End {
				found.start, found.end = 0, len(text) // it is all that there is
			}
		}
	}
	if list != 1 || found.body == "" {
		return foundPrepare{}, errNotIsolated
	}
	return found, nil
}

// skipParens returns the token after the closing parenthesis.
func skipParens(l *sqltext.Scanner) sqltext.Token {
	for depth := 1; ; {
		t := l.Next()
		switch {
		case t.Kind == sqltext.End:
			return t
		case t.Punct('('):
			depth++
		case t.Punct(')'):
			depth--
			if depth == 0 {
				return l.Next()
			}
		}
	}
}
