package torture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy"
	"crossfade/proxy/wire"
)

// The scripts in testdata/states/*.states are the lives of sessions that gather state and lose it:
// paths, roles, settings, statements, cursors, LISTEN, locks, COPY, pipelines, cancels. Each is run
// without a proxy, and then once for each of its boundaries through the proxy, with a switch there;
// every frame must be the same. Many sessions stand at their boundaries when one switch comes.
//
//	== name        begins a script
//	> name=value   a parameter of its start-up packet
//	--             ends a step, whose messages are sent in one write and answered
//	K message      is cancelled while it runs: a text, or a B as in testdata/parity
//	d c f          CopyData (Go's escapes), CopyDone, CopyFail
//
// The other messages are those of testdata/parity. %K is a number of the session's own,
// %R a role that it may take.

// life is one script.
type life struct {
	name   string
	params []wire.Param
	steps  []string
}

// maxTogether is how many sessions one switch moves: each has two servers meanwhile.
const maxTogether = 36

func lives(t testing.TB) []life {
	files, err := filepath.Glob("testdata/states/*.states")
	require.NoError(t, err)
	var list []life
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, part := range strings.Split("\n"+string(text), "\n== ")[1:] {
			name, rest, _ := strings.Cut(part, "\n")
			l := life{name: filepath.Base(file) + ", " + name}
			for strings.HasPrefix(rest, "> ") {
				var line string
				line, rest, _ = strings.Cut(rest[2:], "\n")
				key, value, _ := strings.Cut(line, "=")
				l.params = append(l.params, wire.Param{Name: key, Value: value})
			}
			l.steps = strings.Split(strings.TrimSuffix(rest, "\n"), "\n--\n")
			list = append(list, l)
		}
	}
	return list
}

// stage is where the scripts are run.
type stage struct {
	*rig
	direct pg.DSN // the copy that has no proxy
	role   string
	admin  *pgx.Conn
	mu     sync.Mutex // of admin and key
	key    int
}

// session is one session that lives a life.
type session struct {
	*lane
	life
	st     *stage
	number string       // its own
	all    []wire.Frame // what came, with its own key made equal
}

// begin logs in at address.
func (st *stage) begin(t testing.TB, address string, l life) *session {
	st.mu.Lock()
	st.key++
	key := fmt.Sprint(st.key)
	st.mu.Unlock()
	params := make([]wire.Param, len(l.params))
	for i, p := range l.params {
		params[i] = wire.Param{Name: p.Name, Value: strings.ReplaceAll(p.Value, "%K", key)}
	}
	as := st.source
	if address != st.Addr().String() {
		as = st.direct
	}
	return &session{lane: dial(t, address, as, params...), life: l, st: st, number: key}
}

// run takes steps and keeps what came. It reports where between them there was a boundary.
func (s *session) run(from, to int) (boundaries []int) {
	for k := from; k < to; k++ {
		first := s.count()
		var cancelled bool
		s.send(s.encode(s.steps[k], &cancelled))
		if cancelled {
			s.cancel()
		}
		for _, f := range s.normal(s.answered(first)) {
			s.all = append(s.all, wire.Frame{Type: f.Type, Body: bytes.ReplaceAll(f.Body, []byte(s.number), []byte("%K"))})
		}
		if s.boundary() {
			boundaries = append(boundaries, k+1)
		}
	}
	return boundaries
}

func (s *session) encode(step string, cancelled *bool) []byte {
	step = strings.ReplaceAll(strings.ReplaceAll(step, "%K", s.number), "%R", s.st.role)
	var b []byte
	for line := range strings.Lines(step) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "d":
			raw, err := strconv.Unquote(`"` + rest + `"`)
			require.NoError(s.t, err, line)
			b = wire.AppendFrame(b, 'd', []byte(raw))
		case "c":
			b = append(b, copyDone...)
		case "f":
			b = wire.AppendFrame(b, 'f', append([]byte(rest), 0))
		case "K":
			*cancelled = true
			if strings.HasPrefix(rest, "B ") {
				b = append(join(b, mode{}.message(s.t, rest), execute(0)), syncNow...)
			} else {
				b = append(b, query(rest)...)
			}
		default:
			b = append(b, mode{}.message(s.t, line)...)
		}
	}
	return b
}

// cancel asks for the end of what the session runs, once it runs.
func (s *session) cancel() {
	s.t.Helper()
	eventually(s.t, "it sleeps", func() bool {
		s.st.mu.Lock()
		defer s.st.mu.Unlock()
		return pgtest.Value(s.t, s.st.admin, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%'||$1||'%'", s.number) == "1"
	})
	cancelAt(s.t, s.conn.RemoteAddr().String(), s.pid, s.key)
}

func TestStatesAcrossSwitches(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("testdata/states/schema.sql")
	require.NoError(t, err)
	cluster := pgtest.Shared(t, pgtest.Source)
	dbs := twins(t, cluster, string(schema), 3)
	st := &stage{rig: &rig{t: t, source: dbs[1], target: dbs[2]}, direct: dbs[0], key: 100_000, admin: pgtest.Conn(t, cluster.AdminDSN("postgres"))}
	st.role = dbs[0].Database() + "r"
	pgtest.Exec(t, st.admin, "CREATE ROLE "+st.role+"; GRANT "+st.role+" TO "+dbs[0].User())
	t.Cleanup(func() { pgtest.Exec(t, st.admin, "DROP ROLE "+st.role) })
	st.start()

	scripts := lives(t)
	require.GreaterOrEqual(t, len(scripts), 60)
	type cut struct {
		life
		at   int
		want []wire.Frame
	}
	var cuts []cut
	for _, l := range scripts {
		l.steps = append(l.steps, "Q SELECT 'the end'")
		direct := st.begin(t, address(st.direct), l)
		boundaries := append([]int{0}, direct.run(0, len(l.steps))...)
		_ = direct.conn.Close()
		require.Greater(t, len(boundaries), 1, l.name)
		for _, at := range boundaries[:len(boundaries)-1] {
			cuts = append(cuts, cut{l, at, direct.all})
		}
	}
	t.Logf("%d scripts with %d boundaries", len(scripts), len(cuts))
	for len(cuts) > 0 {
		n := min(maxTogether, len(cuts))
		together := cuts[:n]
		cuts = cuts[n:]
		sessions := make([]*session, n)
		each(n, func(i int) {
			sessions[i] = st.begin(t, st.Addr().String(), together[i].life)
			sessions[i].run(0, together[i].at)
		})
		if err := st.move(true); err != nil {
			for i, s := range sessions {
				t.Logf("session of pid %d is %s, ahead of step %d", s.pid, s.name, together[i].at+1)
			}
			require.NoError(t, err)
		}
		require.Equal(t, proxy.Target, st.Status().Active)
		each(n, func(i int) { sessions[i].run(together[i].at, len(sessions[i].steps)) })
		for i, s := range sessions {
			same(t, together[i].want, s.all, fmt.Sprintf("%s, moved ahead of step %d", s.name, together[i].at+1))
			_ = s.conn.Close()
		}
		eventually(t, "all have left", func() bool { return st.Status().Sessions == 0 })
		require.NoError(t, st.move(false))
	}
}

// each does something n times at once.
func each(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			do(i)
		}()
	}
	wg.Wait()
}
