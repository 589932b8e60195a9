package move

import (
	"context"
	"fmt"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/retry"
	"crossfade/proxy/ask"
	"crossfade/proxy/backend"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
)

// Bounds of looking for locks while sessions drain.
const (
	// blockedPoll is how long a session may stay busy before it is checked whether it waits for a
	// parked one, and how often that check is repeated.
	blockedPoll = 100 * time.Millisecond
	// maxWaiters bounds for how many sessions one query asks: the server stops its lock table for
	// each.
	maxWaiters = 32
)

// drain waits until all sessions of list are parked. A parked session that holds a lock for which
// another one waits (a session-level advisory lock: there are no others at a boundary) is allowed
// to continue as long as that is so: only its client can release the lock.
type drain struct {
	p     *Mover
	list  []*session.Session
	loose map[*session.Session]bool   // allowed to continue
	waits map[*session.Session]string // what a session waits for, by the last query
	conn  *backend.Conn               // for the queries
	link  *state.Link
	blind bool // the queries have failed: continue without them

	prepared string // what the last check for prepared transactions found
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
				d.p.sessions.Draining.Store(false)
				if d.busy() == nil { // no session has passed unnoticed before
					return nil
				}
				continue
			}
			d.hold(func(*session.Session) bool { return true }) // no session waits for them any more
			continue
		}
		moment, cancel := context.WithTimeout(ctx, blockedPoll)
		err := r.Standstill(moment)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !d.blind:
			d.yieldToWaiters(ctx)
		}
	}
}

// busy returns a session that is to be parked and is not.
func (d *drain) busy() *session.Session {
	for _, r := range d.list {
		if !d.loose[r] && !r.View.Parked() {
			return r
		}
	}
	return nil
}

// hold has the gate hold those of the loose sessions again.
func (d *drain) hold(which func(*session.Session) bool) {
	for r := range d.loose {
		if which(r) {
			delete(d.loose, r)
			r.Hold(true)
		}
	}
}

// yieldToWaiters asks which session waits for which, lets parked sessions continue that others wait
// for, and holds them again once no session waits for them.
func (d *drain) yieldToWaiters(ctx context.Context) {
	byPID := map[int32]*session.Session{}
	var waiters []int32
	for _, r := range d.list {
		pid := r.ServerPID()
		byPID[pid] = r
		if !r.View.Parked() && len(waiters) < maxWaiters {
			waiters = append(waiters, pid)
		}
	}
	blocking, err := d.blocking(ctx, waiters)
	if err != nil {
		if ctx.Err() == nil {
			d.blind = true
			d.p.sessions.Log.Warn().Err(err).Msg("sessions that wait for locks could not be found out")
		}
		return
	}
	d.waits = map[*session.Session]string{}
	needed := map[*session.Session]bool{}
	for waiter, holders := range blocking {
		for _, pid := range holders {
			holder := byPID[pid]
			if holder == nil {
				d.waits[byPID[waiter]] = fmt.Sprintf("waits for a lock of process %d, which is no session of this proxy", pid)
				continue
			}
			d.waits[byPID[waiter]] = fmt.Sprintf("waits for a lock that session %d of %s from %s holds", holder.Id, holder.User, holder.Address())
			if d.loose[holder] || holder.View.Parked() {
				needed[holder] = true
			}
		}
	}
	for r := range needed {
		if !d.loose[r] {
			d.loose[r] = true
			d.p.sessions.Log.Info().Uint64(obs.KeySession, r.Id).Msg("parked session continues: another one waits for a lock that it holds")
			r.Hold(false)
		}
	}
	d.hold(func(r *session.Session) bool { return !needed[r] })
}

// blocking asks, on a connection of the drain's own, who holds what the waiters wait for.
func (d *drain) blocking(ctx context.Context, pids []int32) (map[int32][]int32, error) {
	r := d.busy()
	if len(pids) == 0 || r == nil {
		return nil, nil
	}
	link, err := d.sideConn(ctx, r)
	if err != nil {
		return nil, err
	}
	return ask.Blocking(ctx, link, pids)
}

// sideConn returns the drain's own connection to the database of a session.
func (d *drain) sideConn(ctx context.Context, r *session.Session) (*state.Link, error) {
	if d.link != nil {
		return d.link, nil
	}
	at, err := d.p.sessions.Sides.Endpoint(d.p.sessions.Sides.Router.Current().Endpoint)
	if err != nil {
		return nil, err
	}
	if d.conn, err = d.p.sessions.Sides.DialAmong(ctx, at, r.Database, d.p.sessions.Sides.Callers(r.Database, session.CallersOf(d.list))); err != nil {
		return nil, err
	}
	d.link = state.NewLink(d.conn.Conn, d.conn.Leftover(), d.conn.Params)
	return d.link, nil
}

func (d *drain) close() {
	if d.conn != nil {
		side.Terminate(d.conn)
	}
}

// twoPhase waits until no transaction of the database is prepared, where a client has prepared one
// that it has not ended, as far as was seen. While that cannot be asked, it is asked again.
func (d *drain) twoPhase(ctx context.Context) (left bool, err error) {
	if d.p.sessions.Counts.Prepared.Load() <= 0 || len(d.list) == 0 {
		d.prepared = ""
		return false, nil
	}
	found, err := d.preparedNow(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		d.prepared = fmt.Sprintf("whether a transaction that a client has prepared is ended cannot be asked (%v)", err)
	case err == nil && found == "":
		d.p.sessions.Counts.Prepared.Store(0)
		d.prepared = ""
		return false, nil
	case err == nil:
		d.prepared = found + ", is not ended: COMMIT PREPARED or ROLLBACK PREPARED it"
	}
	return true, retry.Sleep(ctx, preparedPoll)
}

// preparedNow names a prepared transaction that there is, "" for none.
func (d *drain) preparedNow(ctx context.Context) (string, error) {
	link, err := d.sideConn(ctx, d.list[0])
	if err != nil {
		return "", err
	}
	found, err := ask.PreparedTransaction(ctx, link)
	if err != nil {
		d.close()
		d.conn, d.link = nil, nil
	}
	return found, err
}

// preparedPoll is how often a drain checks whether a prepared transaction has ended.
const preparedPoll = 20 * time.Millisecond
