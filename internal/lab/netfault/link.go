package netfault

import (
	"net"
	"sync"
)

// Mode is a way to end a link; the package comment says what each does.
type Mode int

// The modes of a cut.
const (
	Reset Mode = iota
	Finish
	ResetClient
	ResetServer
	Silence
)

// link is one client connection with its server connection. Its two pipes own
// the connections; end makes them return.
type link struct {
	conns [2]net.Conn // by the direction that is read from it: [ToServer] is the client's
	state linkState

	mu     sync.Mutex
	silent bool // bytes vanish in both directions
	over   bool

	ended    chan struct{} // closed once: the pipes return
	quieted  chan struct{} // closed once: the pipes stop waiting and discard
	pipesEnd sync.WaitGroup
}

func newLink(client, server net.Conn) *link {
	return &link{conns: [2]net.Conn{ToServer: client, ToClient: server},
		ended: make(chan struct{}), quieted: make(chan struct{})}
}

// cut ends or silences the link. Later cuts of the same link do nothing more
// than what is left to do.
func (l *link) cut(m Mode) {
	switch m {
	case Finish:
		l.end(false)
	case ResetClient:
		l.quiet()
		reset(l.conns[ToServer])
	case ResetServer:
		l.quiet()
		reset(l.conns[ToClient])
	case Silence:
		l.quiet()
	default:
		l.end(true)
	}
}

// end closes both connections, with a RST or without.
func (l *link) end(rst bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.ended)
	for _, c := range l.conns {
		if rst {
			reset(c)
		} else {
			_ = c.Close()
		}
	}
}

func (l *link) quiet() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.silent {
		l.silent = true
		close(l.quieted)
	}
}

func (l *link) isSilent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent
}

// reset closes c so that its peer sees a RST where the transport has one.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// closeWrite passes the end of a stream on.
func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
		return
	}
	_ = c.Close()
}
