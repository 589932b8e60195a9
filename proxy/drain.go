package proxy

import (
	"context"
	"fmt"
	"time"

	"crossfade/internal/obs"
	"crossfade/proxy/backend"
	"crossfade/proxy/session"
)

// Bounds of looking for locks while sessions drain.
const (
	// blockedPoll is how long a session may stay busy before it is looked at whether it
	// waits for a parked one, and how often that is looked at again.
	blockedPoll = 100 * time.Millisecond
	// maxWaiters bounds for how many sessions one look asks: the server stops its lock
	// table for each.
	maxWaiters = 32
)

// drain waits until all sessions of list stand parked. A session that is parked and
// holds a lock for which another one waits (a session-level advisory lock: there are no
// others at a boundary) is let go on as long as that is so: only its client can give
// the lock back.
type drain struct {
	p     *Proxy
	list  []*relay
	loose map[*relay]bool   // let go on
	waits map[*relay]string // what a session waits for, by the last look
	conn  *backend.Conn     // to look with
	link  *session.Link
	blind bool // looking has failed: go on without

	prepared string // a transaction that a client has prepared and not ended, by the last look
}

func (d *drain) run(ctx context.Context) error {
	defer d.close()
	for {
		r := d.busy()
		if r == nil {
			if len(d.loose) == 0 {
				left, err := d.twoPhase(ctx)
				switch {
				case err != nil:
					return err
				case left:
					continue
				}
				d.p.draining.Store(false)
				if d.busy() == nil { // nobody has slipped through before
					return nil
				}
				continue
			}
			d.hold(func(*relay) bool { return true }) // nobody waits for them any more
			continue
		}
		moment, cancel := context.WithTimeout(ctx, blockedPoll)
		err := r.standstill(moment)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !d.blind:
			d.look(ctx)
		}
	}
}

// busy returns a session that is to be parked and is not.
func (d *drain) busy() *relay {
	for _, r := range d.list {
		if !d.loose[r] && !r.parked() {
			return r
		}
	}
	return nil
}

// parked reports that the gate holds the session at a boundary. One that has ended is
// at rest as well.
func (r *relay) parked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ctx.Err() != nil || r.mu.gate && r.reason() == ""
}

// hold has the gate hold those of the loose sessions again.
func (d *drain) hold(which func(*relay) bool) {
	for r := range d.loose {
		if which(r) {
			delete(d.loose, r)
			r.hold(true)
		}
	}
}

// look asks who waits for whom, lets parked sessions go on that others wait for, and
// holds those again that nobody waits for any more.
func (d *drain) look(ctx context.Context) {
	byPID := map[int32]*relay{}
	var waiters []int32
	for _, r := range d.list {
		r.mu.Lock()
		pid := r.mu.server.pid.Load()
		r.mu.Unlock()
		byPID[pid] = r
		if !r.parked() && len(waiters) < maxWaiters {
			waiters = append(waiters, pid)
		}
	}
	blocking, err := d.ask(ctx, waiters)
	if err != nil {
		if ctx.Err() == nil {
			d.blind = true
			d.p.log.Warn().Err(err).Msg("sessions that wait for locks not looked for")
		}
		return
	}
	d.waits = map[*relay]string{}
	needed := map[*relay]bool{}
	for waiter, holders := range blocking {
		for _, pid := range holders {
			holder := byPID[pid]
			if holder == nil {
				d.waits[byPID[waiter]] = fmt.Sprintf("waits for a lock of process %d, which is no session of this proxy", pid)
				continue
			}
			d.waits[byPID[waiter]] = fmt.Sprintf("waits for a lock that session %d of %s from %s holds", holder.id, holder.user, holder.client.RemoteAddr())
			if d.loose[holder] || holder.parked() {
				needed[holder] = true
			}
		}
	}
	for r := range needed {
		if !d.loose[r] {
			d.loose[r] = true
			d.p.log.Info().Uint64(obs.KeySession, r.id).Msg("parked session goes on: another one waits for a lock of it")
			r.hold(false)
		}
	}
	d.hold(func(r *relay) bool { return !needed[r] })
}

// ask asks on a connection of its own.
func (d *drain) ask(ctx context.Context, pids []int32) (map[int32][]int32, error) {
	r := d.busy()
	if len(pids) == 0 || r == nil {
		return nil, nil
	}
	link, err := d.beside(ctx, r)
	if err != nil {
		return nil, err
	}
	return link.Blocking(ctx, pids)
}

// beside returns the drain's own connection to the database of a session.
func (d *drain) beside(ctx context.Context, r *relay) (*session.Link, error) {
	if d.link != nil {
		return d.link, nil
	}
	at, err := d.p.cfg.endpoint(d.p.router.Current().Endpoint)
	if err != nil {
		return nil, err
	}
	if d.conn, err = d.p.dialAmong(ctx, at, r.database, d.p.callers(r.database, d.list)); err != nil {
		return nil, err
	}
	d.link = session.NewLink(d.conn.Conn, d.conn.Leftover(), d.conn.Params)
	return d.link, nil
}

func (d *drain) close() {
	if d.conn != nil {
		terminate(d.conn)
	}
}
