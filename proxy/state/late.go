package state

import (
	"context"
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/proxy/wire"
)

// LateStatement is a statement that a server lacks, and the Parse that makes it there.
type LateStatement struct {
	Statement
	Parse []byte // the frame, in the server's numbers of types
}

// Late returns the statements of a state that are to be parsed when they are first used, for this
// server. A type of a parameter that does not exist here is left to the server to find out.
func (l *Link) Late(ctx context.Context, s *State) (map[string]LateStatement, error) {
	if len(s.Late) == 0 {
		return nil, nil
	}
	p := &Plan{}
	for _, st := range s.Late {
		p.prepare = append(p.prepare, st)
	}
	oids, err := l.lookUp(ctx, p)
	if err != nil {
		return nil, err
	}
	late := make(map[string]LateStatement, len(s.Late))
	for name, st := range s.Late {
		text := st.Text
		if st.FromSQL {
			if text, err = st.body(); err != nil {
				return nil, &StepError{Step: "prepared statement", Err: err}
			}
		}
		late[name] = LateStatement{Statement: st, Parse: wire.AppendParse(nil, name, text, numbers(st, oids))}
	}
	return late, nil
}

// Uses reports whether a text may use or drop a prepared statement of this name by SQL.
func Uses(text []byte, name string) bool {
	if !containsFold(text, "execute") && !containsFold(text, "deallocate") {
		return false
	}
	l := sqltext.Scanner{Src: string(text)}
	behind := false
	for t := l.Next(); t.Kind != sqltext.End; t = l.Next() {
		if behind && t.Name() && t.Text == name {
			return true
		}
		behind = t.Is("execute") || t.Is("deallocate") || behind && t.Is("prepare")
	}
	return false
}

// lateReason says why a statement is late, for people.
const lateReason = "which its own server cannot parse as things are now: it is parsed when it is first used"

// foreign reports that text of a state cannot be sent as it is in the session's own encoding.
func (s *State) foreign(st Statement) bool {
	return st.wide() && !strings.EqualFold(s.Settings["client_encoding"].Value, s.ServerEncoding)
}
