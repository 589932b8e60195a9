package neonlike

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"crossfade/internal/lab/pgcluster"
)

// DefaultDomain is where endpoints have their host names. No resolver knows it:
// connection strings give the address beside the name (hostaddr).
const DefaultDomain = "local.neon.test"

// FrontConfig says where a front serves.
type FrontConfig struct {
	Domain string // DefaultDomain when empty
	Port   int    // of 127.0.0.1; a free one when 0
}

// Front stands before computes as Neon's proxy does. Make one with Listen, add
// endpoints, and call Run. Its methods may be called from several goroutines.
type Front struct {
	domain string
	dir    string
	ln     net.Listener
	id     *identity
	keys   keys

	mu        sync.Mutex
	endpoints map[string]*Endpoint
	conns     map[net.Conn]struct{}
	ended     bool
	serving   sync.WaitGroup
}

// Listen opens the front's port and makes its certificate. The caller calls Run, which
// also removes the certificate's file.
func Listen(cfg FrontConfig) (*Front, error) {
	if cfg.Domain == "" {
		cfg.Domain = DefaultDomain
	}
	dir, err := os.MkdirTemp("", "crossfade-neonlike-")
	if err != nil {
		return nil, fmt.Errorf("make directory of the front: %w", err)
	}
	f := &Front{domain: cfg.Domain, dir: dir, endpoints: map[string]*Endpoint{}, conns: map[net.Conn]struct{}{}}
	if f.id, err = newIdentity(cfg.Domain, f.RootFile()); err == nil {
		f.ln, err = listen(cfg.Port)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return f, nil
}

// listen takes a port below those that connections take their own from, so that
// nobody else has it.
func listen(port int) (net.Listener, error) {
	var err error
	for range portTries {
		p := port
		if p == 0 {
			if p, err = pgcluster.FreePort(); err != nil {
				return nil, err
			}
		}
		var ln net.Listener
		if ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p)); err == nil {
			return ln, nil
		}
		if port != 0 {
			break
		}
	}
	return nil, fmt.Errorf("open the front's port: %w", err)
}

// portTries bounds the search for a port that stays free until it is opened.
const portTries = 5

// RootFile is the certificate of the authority that clients are to trust (PEM).
func (f *Front) RootFile() string { return filepath.Join(f.dir, "root.crt") }

// Port is where the front serves, on 127.0.0.1.
func (f *Front) Port() int { return f.ln.Addr().(*net.TCPAddr).Port }

// Add makes an endpoint for a running cluster that was made with Config. The
// cluster stays the caller's.
func (f *Front) Add(c *pgcluster.Cluster) *Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &Endpoint{id: fmt.Sprintf("ep-local-likeness-%06d", len(f.endpoints)+1), front: f, cluster: c,
		socket: filepath.Join(c.Dir(), fmt.Sprintf(".s.PGSQL.%d", c.Port())), secrets: map[string]string{}, power: make(chan struct{}, 1)}
	f.endpoints[e.id] = e
	return e
}

func (f *Front) endpoint(id string) *Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.endpoints[id]
}

// Run serves until ctx ends, then closes every connection and returns when its
// goroutines have ended. It is called once.
func (f *Front) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = f.ln.Close() })
	defer stop()
	for {
		conn, err := f.ln.Accept()
		if err != nil {
			f.end()
			if ctx.Err() != nil {
				err = nil
			} else {
				err = fmt.Errorf("accept at the front: %w", err)
			}
			return errors.Join(err, os.RemoveAll(f.dir))
		}
		if !f.track(conn) {
			continue
		}
		f.serving.Go(func() {
			defer f.untrack(conn)
			f.serve(ctx, conn)
		})
	}
}

// end closes what is open and waits for it.
func (f *Front) end() {
	f.mu.Lock()
	f.ended = true
	for c := range f.conns {
		_ = c.Close()
	}
	endpoints := make([]*Endpoint, 0, len(f.endpoints))
	for _, e := range f.endpoints {
		endpoints = append(endpoints, e)
	}
	f.mu.Unlock()
	f.serving.Wait()
	for _, e := range endpoints {
		e.forget()
	}
}

// track remembers a connection that is to be closed at the end, and closes it when
// the end has come.
func (f *Front) track(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		_ = conn.Close()
		return false
	}
	f.conns[conn] = struct{}{}
	return true
}

func (f *Front) untrack(conn net.Conn) {
	_ = conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, conn)
}

// host is the name of an endpoint.
func (f *Front) host(id string) string { return id + "." + f.domain }

// split takes a server name apart: the endpoint, and whether its pooler is meant.
func (f *Front) split(name string) (id string, pooled bool, err *pgError) {
	label, ok := strings.CutSuffix(name, "."+f.domain)
	if !ok || strings.Contains(label, ".") {
		return "", false, refusal("Common name inferred from SNI ('%s') is not known", name)
	}
	id, pooled = strings.CutSuffix(label, "-pooler")
	return id, pooled, nil
}
