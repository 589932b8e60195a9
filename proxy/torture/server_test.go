package torture

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/proxy"
	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// poison is a relay in front of a server that lets its bytes pass, but for those to a
// client whose start-up packet names it as its victim: once armed, the next thing
// that the server says to it is replaced.
type poison struct {
	t       testing.TB
	address string

	mu    sync.Mutex
	says  []byte // instead of what the server says next
	armed bool
}

func newPoison(t testing.TB, server string) *poison {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &poison{t: t, address: l.Addr().String()}
	var conns sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { p.serve(near, server) })
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-accepting
		conns.Wait()
	})
	return p
}

// arm has the next words to a victim replaced.
func (p *poison) arm(says []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.says, p.armed = says, true
}

// spent reports that the poison was given.
func (p *poison) spent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.armed
}

func (p *poison) serve(near net.Conn, server string) {
	defer near.Close()
	start, err := wire.ReadStartup(near)
	if err != nil || start.Kind != wire.KindStartup {
		return
	}
	far, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer far.Close()
	name, _ := start.Get("application_name")
	victim := name == "victim"
	packet, err := wire.AppendStartup(nil, start.Version, start.Params)
	if err != nil {
		return
	}
	if _, err := far.Write(packet); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, near)
		_ = far.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := far.Read(buf)
		if n > 0 {
			out := buf[:n]
			p.mu.Lock()
			if victim && p.armed {
				out, p.armed = p.says, false
			}
			p.mu.Unlock()
			if _, err := near.Write(out); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = near.Close()
	<-done
}

// rubbish is what a hostile server may say.
func rubbish() map[string][]byte {
	head := func(typ byte, n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{typ}, n) }
	ready := wire.AppendReadyForQuery(nil, 'I')
	return map[string][]byte{
		"garbage":                    []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"a negative length":          head('D', 1<<32-1),
		"a length of 2 GiB":          head('D', 1<<31),
		"a short length":             head('T', 3),
		"type 0":                     {0, 0, 0, 0, 4},
		"a ReadyForQuery of nothing": wire.AppendFrame(nil, 'Z', nil),
		"a status that is none":      wire.AppendFrame(nil, 'Z', []byte("X")),
		"answers nobody asked for":   join(ready, ready, ready, ready),
		"a row with lengths of -2":   join(wire.AppendFrame(nil, 'D', []byte{0, 1, 0xff, 0xff, 0xff, 0xfe}), ready),
		"an error without an end":    join(wire.AppendFrame(nil, 'E', []byte("SERROR")), ready),
		"an error without fields":    join(wire.AppendFrame(nil, 'E', []byte{0}), ready),
		"a broken ParameterStatus":   join(wire.AppendFrame(nil, 'S', []byte("TimeZone")), ready),
		"a broken notification":      join(wire.AppendFrame(nil, 'A', []byte{0}), ready),
		"a COPY nobody asked for":    join(wire.AppendFrame(nil, 'G', []byte{0, 0, 0}), ready),
		"authentication":             wiretest.AppendAuthCleartext(nil),
		"a half frame":               ready[:3],
	}
}

// TestHostileServers has a server say rubbish to one session in each phase of its life.
// That session may end or go wrong; nobody else's does, nothing panics, and the proxy
// moves the others afterwards.
func TestHostileServers(t *testing.T) {
	t.Parallel()
	victim := wire.Param{Name: "application_name", Value: "victim"}
	phases := map[string]func(g *rig, p map[string]*poison, says []byte){
		"in the log-in": func(g *rig, p map[string]*poison, says []byte) {
			p[g.Status().Active].arm(says)
			conn, err := backend.Dial(within(g.t), backend.Config{
				Address: g.Addr().String(), User: g.source.User(), Password: g.source.Password(), Database: g.source.Database(),
				Params: []wire.Param{victim}, ConnectTimeout: 20 * time.Second,
			})
			require.True(g.t, p[g.Status().Active].spent())
			if err == nil {
				_ = conn.Close()
			}
		},
		"to a query": func(g *rig, p map[string]*poison, says []byte) {
			l := g.lane(victim)
			p[g.Status().Active].arm(says)
			l.write(query("SELECT 1"))
			eventually(g.t, "the query is answered", p[g.Status().Active].spent)
			l.write(query("SELECT 2"))
			_ = l.conn.Close()
		},
		"in COPY": func(g *rig, p map[string]*poison, says []byte) {
			l := g.lane(victim)
			l.write(query(copySQL))
			l.until(0, 'G')
			p[g.Status().Active].arm(says)
			l.write(join(good, copyDone))
			eventually(g.t, "the COPY is answered", p[g.Status().Active].spent)
			_ = l.conn.Close()
		},
		"to a capture": func(g *rig, p map[string]*poison, says []byte) {
			l := g.lane(victim)
			p[g.Status().Active].arm(says)
			g.epoch++
			_, _ = g.Stage(within(g.t), g.epoch)
			require.True(g.t, p[g.Status().Active].spent())
			_ = l.conn.Close()
		},
		"to the log-in of a warm server": func(g *rig, p map[string]*poison, says []byte) {
			l := g.lane(victim)
			p[g.other()].arm(says)
			g.epoch++
			_, _ = g.Stage(within(g.t), g.epoch)
			require.True(g.t, p[g.other()].spent())
			l.mark(l.count(), "its own server is well")
			_ = l.conn.Close()
		},
		"to the replay in the pause": func(g *rig, p map[string]*poison, says []byte) {
			l := g.lane(victim)
			g.epoch++
			ctx := within(g.t)
			_, err := g.Stage(ctx, g.epoch)
			require.NoError(g.t, err)
			l.mark(l.count(), "its own server is well")
			_, err = g.Pause(ctx, g.epoch, patience)
			require.NoError(g.t, err)
			p[g.other()].arm(says)
			_, _ = g.Restage(ctx, g.epoch)
			require.NoError(g.t, g.Resume(ctx, g.epoch))
			l.mark(l.count(), "it goes on where it was")
			p[g.other()].arm(nil)
			_ = l.conn.Close()
		},
		"to the replay behind the switch": func(g *rig, p map[string]*poison, says []byte) {
			l := g.lane(victim)
			g.epoch++
			ctx := within(g.t)
			_, err := g.Stage(ctx, g.epoch)
			require.NoError(g.t, err)
			l.send(query("SET app.late = 'x'"))
			l.mark(l.count(), "set")
			_, err = g.Pause(ctx, g.epoch, patience)
			require.NoError(g.t, err)
			_, err = g.Restage(ctx, g.epoch)
			require.NoError(g.t, err)
			to := g.other()
			p[to].arm(says)
			_, err = g.Switch(ctx, g.epoch, to)
			require.NoError(g.t, err)
			_ = l.conn.Close()
		},
	}
	for phase, do := range phases {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			p := map[string]*poison{}
			g := newRig(t, tortureSchema, func(c *proxy.Config) {
				p[proxy.Source], p[proxy.Target] = newPoison(t, c.Source.Dial.Address), newPoison(t, c.Target.Dial.Address)
				c.Source.Dial.Address, c.Target.Dial.Address = p[proxy.Source].address, p[proxy.Target].address
				for _, e := range []*proxy.Endpoint{&c.Source, &c.Target} {
					e.Dial.ConnectTimeout = 10 * time.Second // bounds half a frame, and then nothing
				}
			})
			well := g.others(2)
			for name, says := range rubbish() {
				do(g, p, says)
				for _, one := range p {
					one.mu.Lock()
					one.armed = false
					one.mu.Unlock()
				}
				eventually(t, "the victim has left: "+name, func() bool { return g.Status().Sessions == 2 })
				well(phase + ", " + name)
				require.Zero(t, g.Status().Panics, name)
			}
			require.NoError(t, g.move(true))
			well("moved")
			require.NoError(t, g.move(false))
			well("moved back")
		})
	}
}
