package proxy

import (
	"crossfade/internal/base/lists"
	"crossfade/proxy/session"
)

// Status is a picture of the proxy.
type Status struct {
	Active          string `json:"active"`
	Epoch           int64  `json:"epoch"`
	Sessions        int    `json:"sessions"`
	Streams         int    `json:"streams"` // replication connections; not among Sessions
	InTransaction   int    `json:"in_transaction"`
	Parked          int    `json:"parked"`
	Waiting         int    `json:"waiting"`       // logins at the closed gate
	Closed          bool   `json:"closed"`        // the gate is closed
	Unauthenticated int    `json:"strangers"`     // connections that have not authenticated
	Crowded         int64  `json:"crowded"`       // those of them that had to give way to others, since the start
	ClientErrors    int64  `json:"client_errors"` // clients that were ended in attempts, since the start
	Revived         int64  `json:"revived"`       // sessions whose idle server went away and that continue with another
	Disconnected    int64  `json:"disconnected"`  // sessions that could not be moved and were ended
	Abandoned       int64  `json:"orphans"`       // statements that were cancelled because their client was gone
	Panics          int64  `json:"panics"`
}

// Status returns a picture of the proxy.
func (p *Proxy) Status() Status {
	now, gate := p.sides.Router.Current(), p.gate.State()
	s := Status{Active: now.Endpoint, Epoch: now.Epoch, Waiting: gate.Waiting, Closed: gate.Closed, ClientErrors: p.sessions.Struck.Sum(), Disconnected: p.sessions.Counts.Expelled.Load(), Revived: p.sessions.Counts.Revived.Load(), Abandoned: p.sessions.Counts.Abandoned.Load(), Panics: p.sessions.Counts.Panics.Load()}
	s.Unauthenticated, s.Crowded = p.logins.Count()
	s.Streams = len(p.sessions.Streams())
	for _, r := range p.sessions.List() {
		s.Sessions++
		inTransaction, parked := r.View.Stands()
		if inTransaction {
			s.InTransaction++
		}
		if parked {
			s.Parked++
		}
	}
	return s
}

// ServerPIDs returns the pg_backend_pid() of the servers of the active side. For
// a session that was never captured it is the pid of its cancel key, which a proxy
// in front of the server may have made up; after Pause all are captured.
func (p *Proxy) ServerPIDs() []int32 {
	streams := lists.Map(p.sessions.Streams(), (*session.Stream).ServerPID)
	return append(lists.Map(p.sessions.List(), (*session.Session).ServerPID), streams...)
}

// FailedDials counts the logins of the proxy that have brought no server, for whatever reason.
func (p *Proxy) FailedDials() int64 { return p.sides.FailedDials() }
