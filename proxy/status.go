package proxy

import (
	"slices"
)

// relays returns the present sessions, oldest first.
func (p *Proxy) relays() []*relay {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*relay, 0, len(p.mu.sessions))
	for _, r := range p.mu.sessions {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *relay) int { return int(int64(a.id) - int64(b.id)) })
	return list
}

// Status returns a picture of the proxy.
func (p *Proxy) Status() Status {
	now, gate := p.router.Current(), p.gate.State()
	s := Status{Active: now.Endpoint, Epoch: now.Epoch, Waiting: gate.Waiting, Closed: gate.Closed, ClientErrors: p.struck.sum(), Disconnected: p.expelled.Load(), Revived: p.revived.Load(), Orphans: p.orphans.Load(), Panics: p.panics.Load()}
	s.Strangers, s.Crowded = p.logins.count()
	s.Streams = len(p.streams())
	for _, r := range p.relays() {
		s.Sessions++
		r.mu.Lock()
		if r.mu.tracker.Status() != 'I' {
			s.InTransaction++
		}
		if r.mu.gate && r.still() {
			s.Parked++
		}
		r.mu.Unlock()
	}
	return s
}

// ServerPIDs returns the pg_backend_pid() of the servers of the active side. For
// a session that was never captured it is the pid of its cancel key, which a proxy
// in front of the server may have made up; after Pause all are captured.
func (p *Proxy) ServerPIDs() []int32 {
	var pids []int32
	for _, r := range p.relays() {
		r.mu.Lock()
		pids = append(pids, r.mu.server.pid.Load())
		r.mu.Unlock()
	}
	for _, s := range p.streams() {
		pids = append(pids, int32(s.server.PID))
	}
	return pids
}
