package torture

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/proxy"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
)

// The proxy whose memory is measured is a process of its own: this test binary, started
// again with its server's address in the environment.
const serveFor = "CROSSFADE_TORTURE_SERVER"

// TestServe is that process. It says where it listens and ends with its standard input.
func TestServe(t *testing.T) {
	server := os.Getenv(serveFor)
	if server == "" {
		t.Skip("the process of another test")
	}
	at := proxy.Endpoint{Dial: backend.Config{Address: server}, Credentials: func(user string) (string, string, bool) { return user, "", true }}
	p, err := proxy.New(proxy.Config{
		Listen: ":0", Source: at, Target: at, Log: zerolog.Nop(),
		Auth: auth.NewUsers(auth.User{Name: "u", Secret: auth.Trust()}),
	})
	require.NoError(t, err)
	fmt.Println("port", p.Addr().(*net.TCPAddr).Port)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop()
	require.NoError(t, <-ended)
}

// process is the proxy as a process.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	port string
}

// start runs it, under a soft limit of open files where that is not 0.
func startProcess(t testing.TB, server string, softFiles int) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServe$", "-test.timeout=10m")
	if softFiles > 0 {
		cmd = exec.Command("sh", "-c", fmt.Sprintf(`ulimit -Sn %d && exec "$0" "$@"`, softFiles), os.Args[0], "-test.run=^TestServe$", "-test.timeout=10m")
	}
	cmd.Env = append(os.Environ(), serveFor+"="+server)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	p := &process{t: t, cmd: cmd}
	for p.port == "" && lines.Scan() {
		p.port, _ = strings.CutPrefix(lines.Text(), "port ")
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-drained
		_ = cmd.Wait()
	})
	require.NotEmpty(t, p.port, "it does not listen")
	return p
}

// field reads a number from a file of /proc about it.
func (p *process) field(file, pattern string) int {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file))
	require.NoError(p.t, err)
	m := regexp.MustCompile(pattern).FindSubmatch(b)
	require.NotNil(p.t, m, "%s", b)
	n, err := strconv.Atoi(string(m[1]))
	require.NoError(p.t, err)
	return n
}

// rss is its resident memory in KiB.
func (p *process) rss() int { return p.field("status", `VmRSS:\s+(\d+) kB`) }

// dial connects from an address of this machine.
func (p *process) dial(from string) (net.Conn, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return d.Dial("tcp", "127.0.0.1:"+p.port)
}

// login logs in and returns once the session is ready.
func (p *process) login(from string) (net.Conn, error) {
	conn, err := p.dial(from)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	start, err := wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "u"}, {Name: "database", Value: "d"}})
	if err == nil {
		_, err = conn.Write(start)
	}
	r := wire.NewReader(conn, 1<<20)
	for err == nil {
		var f wire.Frame
		f, err = r.Next()
		if err == nil && f.Type == 'E' {
			var said *wire.ServerError
			if said, err = wire.DecodeError(f.Body); err == nil {
				err = said
			}
		}
		if err == nil && f.Type == 'Z' {
			return conn, nil
		}
	}
	_ = conn.Close()
	return nil, err
}

// ask has a session answer once.
func ask(conn net.Conn) error {
	if _, err := conn.Write(query("SELECT 1")); err != nil {
		return err
	}
	r := wire.NewReader(conn, 1<<20)
	for {
		f, err := r.Next()
		if err != nil || f.Type == 'Z' {
			return err
		}
	}
}

// standIn is a server without a database, so that a thousand sessions cost this machine
// nothing: it lets everybody in and has one answer.
func standIn(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	greeting := join(wire.AppendAuthOK(nil), wire.AppendParameterStatus(nil, "server_version", "15.0"), wire.AppendBackendKeyData(nil, 0, []byte("key!")), wire.AppendReadyForQuery(nil, 'I'))
	answer := join(wire.AppendFrame(nil, 'T', []byte{0, 0}), wire.AppendFrame(nil, 'C', []byte("SELECT 1\x00")), wire.AppendReadyForQuery(nil, 'I'))
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				if _, err := wire.ReadStartup(conn); err != nil {
					return
				}
				_, _ = conn.Write(greeting)
				for {
					f, err := wire.ReadFrame(conn, 1<<20)
					if err != nil || f.Type == 'X' {
						return
					}
					if f.Type == 'Q' || f.Type == 'S' {
						_, _ = conn.Write(answer)
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return l.Addr().String()
}

// files raises this process's limit of open files and skips the test where the
// machine does not allow n.
func files(t testing.TB, n uint64) {
	t.Helper()
	var r syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r))
	if r.Max < n {
		t.Skipf("the machine allows %d open files, %d are needed", r.Max, n)
	}
	r.Cur = r.Max
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r))
}

// many opens n connections, some at a time.
func many(t testing.TB, n int, open func(i int) (net.Conn, error)) []net.Conn {
	t.Helper()
	list := make([]net.Conn, n)
	errs := make([]error, n)
	turns := make(chan struct{}, 32)
	var all sync.WaitGroup
	for i := range n {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			list[i], errs[i] = open(i)
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for _, c := range list {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	for i, err := range errs {
		require.NoError(t, err, "connection %d", i)
	}
	return list
}

// TestAThousandIdleSessions measures the whole process, which holds this test binary
// as well: what the program itself holds is less.
func TestAThousandIdleSessions(t *testing.T) {
	t.Parallel()
	if raceDetector {
		t.Skip("the race detector takes memory of its own")
	}
	const sessions, most = 1000, 60 << 10 // KiB
	files(t, 4*sessions)
	p := startProcess(t, standIn(t), 0)
	empty := p.rss()
	list := many(t, sessions, func(int) (net.Conn, error) { return p.login("127.0.0.1") })
	for _, c := range list {
		require.NoError(t, ask(c))
	}
	rss := p.rss()
	t.Logf("%d KiB, of which %d KiB without a session: %.1f KiB a session", rss, empty, float64(rss-empty)/sessions)
	require.Less(t, rss, most, "KiB")
	for _, c := range list {
		require.NoError(t, ask(c), "each is served")
	}
}

// TestTheLimitOfOpenFilesIsRaised: two sockets a session are soon more than the soft
// limit that shells and service managers give.
func TestTheLimitOfOpenFilesIsRaised(t *testing.T) {
	t.Parallel()
	p := startProcess(t, standIn(t), 256)
	soft, hard := p.field("limits", `Max open files\s+(\d+)`), p.field("limits", `Max open files\s+\d+\s+(\d+)`)
	require.GreaterOrEqual(t, soft, hard-1) // Go leaves one
	for range 200 {
		c, err := p.login("127.0.0.1")
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
	}
}

// TestTenThousandHalfOpenConnections: clients that send nothing neither take the memory
// nor the place of a client who logs in, from another address or from theirs.
func TestTenThousandHalfOpenConnections(t *testing.T) {
	t.Parallel()
	const unauthenticated, most = 10_000, 200 << 10 // KiB
	files(t, unauthenticated+2000)
	p := startProcess(t, standIn(t), 0)
	before, err := p.login("127.0.0.1")
	require.NoError(t, err)
	t.Cleanup(func() { _ = before.Close() })
	for _, says := range []string{"", "\x00\x00", "\x00\x00\x27\x10\x00\x03\x00\x00user"} {
		list := many(t, unauthenticated/3+1, func(int) (net.Conn, error) {
			c, err := p.dial("127.0.0.1")
			if err == nil {
				_, _ = io.WriteString(c, says)
			}
			return c, err
		})
		require.Len(t, list, unauthenticated/3+1)
		for _, from := range []string{"127.0.0.2", "127.0.0.1"} {
			c, err := p.login(from)
			require.NoError(t, err, "a good client from %s is kept out", from)
			require.NoError(t, ask(c))
			require.NoError(t, c.Close())
		}
	}
	require.NoError(t, ask(before), "a session from before is served")
	rss := p.rss()
	t.Logf("%d KiB with %d unauthenticated connections", rss, unauthenticated)
	if !raceDetector {
		require.Less(t, rss, most, "KiB")
	}
}
