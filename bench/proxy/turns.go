package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"crossfade/internal/lab/measure"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Whole runs of pgbench are seconds apart, and what one client waits for differs more
// between two seconds of a shared machine than between two proxies. Here one client
// takes turns: some queries through one contender, then as many through the next.

const (
	turnQueries = 20     // of one turn; the first ones are not counted
	turnWarm    = 4      // which find the path cold, since others had their turn
	accounts    = 100000 // of pgbench for each unit of scale
)

// line is one connection through a contender, used by blocking system calls: the
// measure has no scheduler of its own in it.
type line struct {
	c    *contender
	file *os.File
	took []int32 // in microseconds
	buf  []byte
}

func dialLine(ctx context.Context, c *contender) (*line, error) {
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable", c.port))
	if err != nil {
		return nil, fmt.Errorf("connect through %s: %w", c.name, err)
	}
	if _, err := conn.Prepare(ctx, "p0", query("$1"), nil); err != nil {
		return nil, fmt.Errorf("prepare through %s: %w", c.name, err)
	}
	h, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	tcp, ok := h.Conn.(*net.TCPConn)
	if !ok {
		return nil, errors.New("no TCP connection")
	}
	f, err := tcp.File() // a descriptor of its own
	_ = tcp.Close()
	if err != nil {
		return nil, err
	}
	return &line{c: c, file: f, buf: make([]byte, 8192)}, syscall.SetNonblock(int(f.Fd()), false)
}

func query(aid string) string { return "SELECT abalance FROM pgbench_accounts WHERE aid = " + aid }

// request is one query as pgbench sends it in that mode.
func request(mode string, aid int) ([]byte, error) {
	value := fmt.Appendf(nil, "%d", aid)
	bind := &pgproto3.Bind{Parameters: [][]byte{value}}
	var messages []pgproto3.FrontendMessage
	switch mode {
	case "simple":
		messages = []pgproto3.FrontendMessage{&pgproto3.Query{String: query(string(value))}}
	case "extended":
		messages = []pgproto3.FrontendMessage{&pgproto3.Parse{Query: query("$1")}, bind, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}}
	case "prepared":
		bind.PreparedStatement = "p0"
		messages = []pgproto3.FrontendMessage{bind, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}}
	default:
		return nil, fmt.Errorf("nobody knows the mode %q", mode)
	}
	var out []byte
	var err error
	for _, m := range messages {
		if out, err = m.Encode(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

var readyForQuery = []byte{'Z', 0, 0, 0, 5, 'I'}

// ask sends a request and waits for the end of its answer.
func (l *line) ask(request []byte) (time.Duration, error) {
	fd := int(l.file.Fd())
	began := time.Now()
	if _, err := syscall.Write(fd, request); err != nil {
		return 0, err
	}
	for n := 0; ; {
		m, err := syscall.Read(fd, l.buf[n:])
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, fmt.Errorf("read through %s: %w", l.c.name, err)
		}
		if n += m; bytes.HasSuffix(l.buf[:n], readyForQuery) {
			if l.buf[0] == 'E' {
				return 0, fmt.Errorf("through %s: %q", l.c.name, l.buf[:n])
			}
			return time.Since(began), nil
		}
	}
}

// benchTurns prints what each contender adds for one client.
func benchTurns(ctx context.Context, o options) (err error) {
	f, err := set(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.bench.fill(ctx, f.cluster.Port(), o.scale); err != nil {
		return err
	}
	if err := f.enter(ctx, o, links{}); err != nil {
		return err
	}
	fmt.Printf("%s; one client, %d queries each in turns of %d; load %s\n", measure.Cores(), o.turns*(turnQueries-turnWarm), turnQueries, measure.Load())
	fmt.Printf("\n%-9s %-10s %8s %8s %8s %8s %9s %8s\n", "mode", "contender", "p50 us", "p90 us", "p99 us", "mean us", "added us", "CPU us")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, mode := range o.modes {
		if err := f.turns(ctx, o, mode); err != nil {
			return err
		}
	}
	return nil
}

func (f *field) turns(ctx context.Context, o options, mode string) error {
	var lines []*line
	defer func() {
		for _, l := range lines {
			_ = l.file.Close()
		}
	}()
	for _, c := range f.contenders {
		l, err := dialLine(ctx, c)
		if err != nil {
			return err
		}
		lines = append(lines, l)
	}
	order := slices.Clone(lines)
	cpu := map[*line]int{}
	for n := range o.turns + o.turns/10 { // a tenth is warm-up
		if n == o.turns/10 {
			for _, l := range lines {
				l.took, cpu[l] = nil, l.c.ticks()
			}
		}
		for _, l := range order {
			for i := range turnQueries {
				r, err := request(mode, 1+rand.IntN(o.scale*accounts))
				if err != nil {
					return err
				}
				took, err := l.ask(r)
				if err != nil {
					return err
				}
				if i >= turnWarm {
					l.took = append(l.took, int32(took.Microseconds()))
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		order = append(order[1:], order[0])
	}
	var plain float64
	for _, l := range lines {
		p50, added, used := percentile(l.took, 50), "-", "-"
		if l.c.cmd == nil {
			plain = p50
		} else {
			added = fmt.Sprintf("%.0f", p50-plain)
			used = fmt.Sprintf("%.1f", float64(l.c.ticks()-cpu[l])*microsecondsPerTick/float64(o.turns*turnQueries))
		}
		var sum float64
		for _, v := range l.took {
			sum += float64(v)
		}
		fmt.Printf("%-9s %-10s %8.0f %8.0f %8.0f %8.0f %9s %8s\n", mode, l.c.name, p50, percentile(l.took, 90), percentile(l.took, 99), sum/float64(len(l.took)), added, used)
	}
	return nil
}
