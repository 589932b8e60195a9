package neonlike

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	// wakeTimeout bounds a login's wait for its compute, the wake-up included.
	wakeTimeout = 90 * time.Second
	// connectTries and firstPause bound the attempts to reach a compute that is
	// not there: Neon's proxy makes five, with pauses that double.
	connectTries = 5
	firstPause   = 50 * time.Millisecond
)

// session is a client and its compute, both logged in.
type session struct {
	endpoint        *Endpoint
	client, compute net.Conn
	key             key
	spoilt          spoilt
}

// enter logs in to the compute with what is forwarded and tells the client what the compute
// said, with a cancel key of the front's own.
func (l *login) enter(ctx context.Context, e *Endpoint) (*session, error) {
	if said := e.faults.login(); said != "" {
		return nil, refusal("%s", said)
	}
	_ = l.conn.SetDeadline(time.Now().Add(wakeTimeout))
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	conn, err := e.dial(ctx)
	if err != nil {
		return nil, refusal("Couldn't connect to compute node")
	}
	if !l.front.track(conn) {
		return nil, net.ErrClosed
	}
	s := &session{endpoint: e, client: l.conn, compute: conn}
	told, err := s.logIn(l.asked.forwarded())
	if err == nil {
		_, err = l.conn.Write(told)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// dial connects to the compute, and wakes it where it sleeps.
func (e *Endpoint) dial(ctx context.Context) (net.Conn, error) {
	pause := firstPause
	for n := 1; ; n++ {
		if e.Asleep() { // or about to wake: a compute that starts is waited for
			if _, err := e.wake(ctx); err != nil {
				return nil, err
			}
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", e.socket)
		if err == nil || n == connectTries {
			return conn, err
		}
		woken, err := e.wake(ctx)
		if err != nil {
			return nil, err
		}
		if woken {
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		pause *= 2
	}
}

// logIn begins the compute's session and returns what the client is told of it.
func (s *session) logIn(params []param) (told []byte, err error) {
	_ = s.compute.SetDeadline(time.Now().Add(loginTimeout))
	if _, err := s.compute.Write(packet(params)); err != nil {
		return nil, refusal("Couldn't connect to compute node")
	}
	for {
		typ, body, err := readFrame(s.compute, maxLogin)
		if err != nil {
			return nil, refusal("Couldn't connect to compute node")
		}
		switch typ {
		case 'E':
			return nil, errorFields(body)
		case 'R':
			if len(body) != 4 || body[3] != authOK {
				return nil, errors.New("the compute asks for a password: it was not made with this package's Config")
			}
		case 'K':
			s.key = s.endpoint.front.keys.add(cancelTarget{socket: s.endpoint.socket, body: body})
			told = append(told, frame('K', s.key[:])...)
		case 'S', 'N', 'Z':
			told = append(told, frame(typ, body)...)
			if typ == 'Z' {
				_ = s.compute.SetDeadline(time.Time{})
				return told, nil
			}
		default:
			return nil, fmt.Errorf("unexpected message %q in the login of the compute", typ)
		}
	}
}

func (s *session) close() {
	s.endpoint.front.keys.remove(s.key)
	s.endpoint.front.untrack(s.compute)
}
