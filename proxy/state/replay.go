package state

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/proxy/wire"
)

// stepName is the name of the statement with which a replay runs what it runs.
const stepName = "_crossfade_step"

const settingLabel = "setting "

func isSetting(step string) bool { return strings.HasPrefix(step, settingLabel) }

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
		if err := l.prepare(s, p.locals[s.Name], oids); err != nil && first == nil {
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
		if l.Prepared == nil {
			l.Prepared = map[string]Made{}
		}
		l.Prepared[s.Name] = Made{Text: s.Text, Shape: shape}
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
