package netfault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// dialTimeout bounds the connection to the target: it is on the same machine or
// a test's network, where a connection that takes longer will not come.
const dialTimeout = 10 * time.Second

// Config says what a relay stands between.
type Config struct {
	Listen string // host:port; empty means a free port on 127.0.0.1
	Target string // host:port, or the path of a Unix socket
}

// Relay forwards connections to its target and harms them on request. Make one
// with Listen, then call Run.
type Relay struct {
	target string
	ln     net.Listener
	shape  *shaper
	traps  traps

	mu struct {
		sync.Mutex
		links   map[*link]struct{}
		refuse  bool
		stopped bool
	}
	links sync.WaitGroup
}

// Listen opens the relay's port. Connections wait until Run serves them.
func Listen(cfg Config) (*Relay, error) {
	if cfg.Target == "" {
		return nil, errors.New("relay has no target")
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", cfg.Listen, err)
	}
	r := &Relay{target: cfg.Target, ln: ln, shape: newShaper()}
	r.mu.links = map[*link]struct{}{}
	return r, nil
}

// Addr is where clients connect.
func (r *Relay) Addr() *net.TCPAddr { return r.ln.Addr().(*net.TCPAddr) }

// Run serves until ctx ends, then resets every link and returns nil when its
// goroutines have ended. It is called once.
func (r *Relay) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = r.ln.Close() })
	defer stop()
	defer r.links.Wait()
	defer r.stop()
	for {
		c, err := r.ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept at %s: %w", r.Addr(), err)
		}
		if r.refuses() {
			reset(c)
			continue
		}
		r.links.Add(1)
		go func() {
			defer r.links.Done()
			r.serve(ctx, c)
		}()
	}
}

// serve owns the link of c until both its pipes have ended.
func (r *Relay) serve(ctx context.Context, c net.Conn) {
	network := "tcp"
	if strings.HasPrefix(r.target, "/") {
		network = "unix"
	}
	d := net.Dialer{Timeout: dialTimeout}
	s, err := d.DialContext(ctx, network, r.target)
	if err != nil {
		reset(c)
		return
	}
	l := newLink(c, s)
	if !r.add(l) {
		l.end(true)
		return
	}
	defer r.remove(l)
	for _, dir := range []Direction{ToServer, ToClient} {
		p := &pipe{link: l, dir: dir, shape: r.shape, queue: make(chan piece, queued),
			frames: newFrames(dir, &l.state, &r.traps)}
		l.pipesEnd.Add(2)
		go func() { defer l.pipesEnd.Done(); p.read() }()
		go func() { defer l.pipesEnd.Done(); p.write() }()
	}
	l.pipesEnd.Wait()
	l.end(false)
}

// Shape sets what happens to the bytes of one direction, on the links that are
// and those to come.
func (r *Relay) Shape(d Direction, s Shape) { r.shape.set(d, s) }

// Stall holds both directions, or lets what is held go on; a delay or bandwidth
// that was set is kept.
func (r *Relay) Stall(on bool) {
	for _, d := range []Direction{ToServer, ToClient} {
		s, _ := r.shape.get(d)
		s.Stall = on
		r.shape.set(d, s)
	}
}

// Heal lifts shapes, traps and refusal. Links that were cut stay cut.
func (r *Relay) Heal() {
	r.traps.disarm()
	r.Refuse(false)
	r.shape.set(ToServer, Shape{})
	r.shape.set(ToClient, Shape{})
}

// Refuse makes the relay reset each new connection at once, or serve again.
func (r *Relay) Refuse(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.refuse = on
}

// Cut ends every link that exists and returns their number.
func (r *Relay) Cut(m Mode) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.mu.links {
		l.cut(m)
	}
	return len(r.mu.links)
}

// Arm sets a trap. The channel closes when it has sprung and the link is cut.
func (r *Relay) Arm(t Trap) <-chan struct{} { return r.traps.arm(t) }

// Passed is the number of bytes that have gone in one direction, over all links.
func (r *Relay) Passed(d Direction) int64 { return r.shape.passed[d].Load() }

// Links is the number of links that exist, silent ones included.
func (r *Relay) Links() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.links)
}

func (r *Relay) refuses() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.refuse
}

func (r *Relay) add(l *link) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.stopped {
		return false
	}
	r.mu.links[l] = struct{}{}
	return true
}

func (r *Relay) remove(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.links, l)
}

func (r *Relay) stop() {
	_ = r.ln.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.stopped = true
	for l := range r.mu.links {
		l.end(true)
	}
}
