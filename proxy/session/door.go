package session

import (
	"context"
	"net"

	"crossfade/proxy/wire"
)

// Door lets a test of the whole proxy, which cannot be in this package, look into a session and
// bring it into a state that is hard to come to from outside. Nothing else uses it: the
// architecture test refuses calls of DoorOf by production code.
type Door struct{ *Session }

// DoorOf returns the door of a session.
func DoorOf(r *Session) Door { return Door{r} }

// Reason says why the session is not at a boundary, "" when it is.
func (d Door) Reason() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.tracker.Reason()
}

// Frames is how many frames the client has sent.
func (d Door) Frames() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.tracker.ClientFrames()
}

// Held reports that the gate holds the session.
func (d Door) Held() bool {
	return d.mu.locked(func() bool { return d.mu.hold.gate })
}

// Lacks reports that the session lives by what was captured of it.
func (d Door) Lacks() bool {
	return d.mu.locked(func() bool { return d.mu.serving.lacks })
}

// Unread reports that the client does not read what it is sent.
func (d Door) Unread() bool { return d.up.unread() }

// Delivering reports that something is on its way to the client.
func (d Door) Delivering() bool { return d.toClient.Load() }

// Client is the connection to the client.
func (d Door) Client() net.Conn { return d.client }

// Context ends with the session.
func (d Door) Context() context.Context { return d.ctx }

// Told makes the session believe that the client was told that value of a setting.
func (d Door) Told(name, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.observed.params[name] = value
}

// Break makes the session panic with the next setting that is reported to its client.
func (d Door) Break() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.observed.params = nil
}

// LoseCount makes the session see an answer too many.
func (d Door) LoseCount() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = d.mu.tracker.Server(wire.AppendReadyForQuery(nil, 'I'))
}

// Renumber makes the session one whose client was told that pid at its login.
func (d Door) Renumber(pid uint32) {
	p, before := d.p, d.pid
	p.mu.Lock()
	delete(p.mu.byPID, before)
	p.mu.byPID[pid], d.Session.pid = d.Session, pid
	p.mu.Unlock()
	server := uint32(d.ServerPID())
	p.Pids.Translate(server, before, before)
	p.Pids.Translate(0, server, pid)
}
