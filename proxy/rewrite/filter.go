package rewrite

import (
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Filter is all that a server makes necessary to be changed between it and its client, as the
// wire.Filter of the session. Called with the session's lock held.
type Filter struct {
	Late     *Late            // statements that the client has and this server does not; nil for none
	Backends *Backends        // nil where numbers of backends that the client sends need no translation
	Types    *typemap.Session // nil where numbers of types need none
	PIDs     PIDs             // nil where those of backends that the server sends need none
}

// ClientHolds implements wire.Filter, as do the others.
func (f *Filter) ClientHolds(typ byte) int {
	hold := 0
	if f.Late.holds(typ) {
		hold = maxLate
	}
	if f.Backends.holds(typ) {
		hold = max(hold, maxNumbered)
	}
	if f.Types != nil {
		hold = max(hold, f.Types.ClientHolds(typ))
	}
	return hold
}

// Ahead: the Parses of late statements that the frame uses.
func (f *Filter) Ahead(dst, frame []byte) []byte {
	return f.Late.ahead(dst, frame, func(parse []byte) []byte { return f.ClientFrame(parse, true) })
}

// ClientFrame: first the numbers of backends, then those of types.
func (f *Filter) ClientFrame(frame []byte, queued bool) []byte {
	frame = f.Backends.frame(frame)
	if f.Types != nil {
		frame = f.Types.ClientFrame(frame, queued)
	}
	return frame
}

func (f *Filter) ClientLarge(typ byte, queued bool) {
	if f.Types != nil {
		f.Types.ClientLarge(typ, queued)
	}
}

func (f *Filter) ServerHolds(typ byte) int {
	switch {
	case f.PIDs != nil && typ == 'A', f.Late.hides(typ):
		return typemap.MaxHeld
	case f.Types != nil:
		return f.Types.ServerHolds(typ)
	}
	return 0
}

func (f *Filter) ServerFrame(frame []byte) []byte {
	f.PIDs.Frame(frame)
	if f.Types != nil {
		frame = f.Types.ServerFrame(frame)
	}
	if f.Late.hide(frame[0]) {
		return nil
	}
	return frame
}

func (f *Filter) Answered() {
	if f.Types != nil {
		f.Types.Answered()
	}
}

func (f *Filter) Refused(n int) {
	if f.Types != nil {
		f.Types.Refused(n)
	}
}

func (f *Filter) Lost() {
	if f.Types != nil {
		f.Types.Lost()
	}
}

var _ wire.Filter = (*Filter)(nil)
