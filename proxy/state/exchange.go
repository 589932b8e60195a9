package state

import (
	"errors"
	"fmt"

	"crossfade/proxy/wire"
)

func (l *Link) exchange(out []byte, units []unit) error {
	if _, err := l.conn.Write(out); err != nil {
		l.broken = fmt.Errorf("write to the server: %w", err)
		return l.broken
	}
	var first error
	for _, u := range units {
		err := l.reply(u)
		if l.broken != nil {
			return l.broken
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// reply reads one unit's replies up to its ReadyForQuery.
func (l *Link) reply(u unit) error {
	var failed error
	done := 0
	for {
		f, err := l.frame()
		if err != nil {
			return err
		}
		switch f.Type {
		case 'Z':
			status, err := wire.DecodeReadyForQuery(f.Body)
			if u.done != nil && err == nil {
				u.done()
			}
			if err == nil && status != 'I' {
				err = fmt.Errorf("transaction status %q after a probe", status)
			}
			if err != nil {
				l.broken = err
				return err
			}
			return failed
		case 'E':
			e, err := wire.DecodeError(f.Body)
			if err != nil || e.Fatal() {
				l.broken = errors.Join(err, serverError(e))
				return l.broken
			}
			var why error = e
			if u.refused != nil {
				why = u.refused(e)
			}
			if why != nil && failed == nil {
				failed = &StepError{Step: u.label(done), Err: why}
			}
		case 'D':
			if u.row == nil || failed != nil {
				continue
			}
			cols, err := wire.DecodeDataRow(nil, f.Body)
			if err == nil {
				err = u.row(cols)
			}
			if err != nil {
				failed = &StepError{Step: u.label(done), Err: err}
			}
		case 't', 'T':
			if u.described == nil || failed != nil {
				continue
			}
			if err := u.described(f); err != nil {
				failed = &StepError{Step: u.label(done), Err: err}
			}
		case 'C', 'I':
			done++
		}
	}
}

func serverError(e *wire.ServerError) error {
	if e == nil {
		return nil
	}
	return e
}

// frame returns the next message that answers us.
func (l *Link) frame() (wire.Frame, error) {
	for {
		f, err := l.reader.Next()
		if err != nil {
			l.broken = fmt.Errorf("read from the server: %w", err)
			return wire.Frame{}, l.broken
		}
		switch f.Type {
		case 'S':
			if p, err := wire.DecodeParameterStatus(f.Body); err == nil {
				l.Params[p.Name] = p.Value
			}
		case 'A', 'N':
		default:
			return f, nil
		}
		if l.Async != nil {
			l.Async(f)
		}
	}
}

func (u unit) label(i int) string {
	if i < len(u.labels) {
		return u.labels[i]
	}
	if len(u.labels) > 0 {
		return u.labels[len(u.labels)-1]
	}
	return "probe"
}

// StepError says which step of a capture or a replay the server refused. Its
// text holds names and the server's message or, for settings, the SQLSTATE only:
// the message of a refused setting quotes the value.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string {
	var se *wire.ServerError
	if errors.As(e.Err, &se) && isSetting(e.Step) {
		return e.Step + ": SQLSTATE " + se.Code
	}
	return e.Step + ": " + e.Err.Error()
}

func (e *StepError) Unwrap() error { return e.Err }
