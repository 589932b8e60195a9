package torture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
)

// The corpus in testdata/parity is run direct and through the proxy, in two databases
// that are copies of one, so that OIDs are the same; the frames must be. Blocks are
// separated by a line of dashes, and each is sent in one write:
//
//	*.sql   a text. Lines "<< data" (Go's escapes) are CopyData for it, "<! text" is CopyFail.
//	*.msg   messages: Q sql, P name sql, B portal statement values, D S|P name, E portal
//	        rows, C S|P name, F oid, S, H
//
// A block with the line "-- stays" is not moved ahead of.

// mode is how a text is sent.
type mode struct {
	name     string
	extended bool
	format   int16 // of results
}

var modes = []mode{{"simple", false, 0}, {"extended, text", true, 0}, {"extended, binary", true, 1}}

// encode returns what a client sends for a block.
func (m mode) encode(t testing.TB, file, block string) []byte {
	if filepath.Ext(file) == ".msg" {
		var b []byte
		for line := range strings.Lines(block) {
			b = append(b, m.message(t, strings.TrimSuffix(line, "\n"))...)
		}
		return b
	}
	var sql, data []byte
	end := copyDone
	for line := range strings.Lines(block) {
		switch text := strings.TrimSuffix(line, "\n"); {
		case strings.HasPrefix(line, "<< "):
			raw, err := strconv.Unquote(`"` + strings.ReplaceAll(text[3:], `"`, `\"`) + `"`)
			require.NoError(t, err, line)
			data = wire.AppendFrame(data, 'd', []byte(raw))
		case strings.HasPrefix(line, "<! "):
			end = wire.AppendFrame(nil, 'f', append([]byte(text[3:]), 0))
		default:
			sql = append(sql, line...)
		}
	}
	if bytes.Contains(sql, []byte("FROM STDIN")) {
		data = append(data, end...)
	}
	text := strings.TrimSuffix(string(sql), "\n")
	if !m.extended {
		return join(query(text), data)
	}
	return join(parse("", text), wire.AppendDescribe(nil, 'S', ""), wire.AppendBind(nil, "", "", nil, nil, []int16{m.format}),
		wire.AppendDescribe(nil, 'P', ""), execute(0), data, syncNow)
}

func (m mode) message(t testing.TB, line string) []byte {
	typ, rest, _ := strings.Cut(line, " ")
	words := strings.Fields(rest)
	for i, w := range words {
		if w == `""` {
			words[i] = ""
		}
	}
	number := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 10, 32)
		require.NoError(t, err, line)
		return uint32(n)
	}
	switch typ {
	case "Q":
		return query(rest)
	case "P":
		_, sql, _ := strings.Cut(rest, " ")
		return parse(words[0], sql)
	case "B":
		var values [][]byte
		for _, w := range words[2:] {
			if w == `\N` {
				values = append(values, nil)
			} else {
				values = append(values, []byte(w))
			}
		}
		return wire.AppendBind(nil, words[0], words[1], nil, values, []int16{m.format})
	case "D":
		return wire.AppendDescribe(nil, words[0][0], words[1])
	case "C":
		return wire.AppendClose(nil, words[0][0], words[1])
	case "E":
		return wire.AppendExecute(nil, words[0], number(words[1]))
	case "F":
		return call(number(words[0]))
	case "S":
		return syncNow
	case "H":
		return flush
	}
	require.Fail(t, "unknown message", line)
	return nil
}

// twins makes databases that are copies of one, and the role that owns them.
func twins(t testing.TB, c *pgcluster.Cluster, schema string, copies int) []pg.DSN {
	t.Helper()
	first := pgtest.Database(t, c)
	conn, err := pg.Connect(within(t), first, pg.WithParam("search_path", "public"))
	require.NoError(t, err)
	_, err = conn.PgConn().Exec(within(t), schema).ReadAll()
	require.NoError(t, err)
	require.NoError(t, conn.Close(within(t)))
	list := []pg.DSN{first}
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	for i := 1; i < copies; i++ {
		name := fmt.Sprintf("%s_%d", first.Database(), i)
		eventually(t, "nobody uses the template", func() bool {
			return pgtest.Value(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", first.Database()) == "0"
		})
		pgtest.Exec(t, admin, "CREATE DATABASE "+name+" TEMPLATE "+first.Database()+" OWNER "+first.User())
		t.Cleanup(func() { pgtest.Exec(t, admin, "DROP DATABASE "+name+" WITH (FORCE)") })
		list = append(list, c.DSN(first.User(), first.Password(), name))
	}
	return list
}

func TestParity(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("testdata/parity/schema.sql")
	require.NoError(t, err)
	dbs := twins(t, pgtest.Shared(t, pgtest.Source), string(schema), 3)
	g := &rig{t: t, source: dbs[1], target: dbs[2]}
	g.start()
	files, err := filepath.Glob("testdata/parity/*")
	require.NoError(t, err)
	require.Len(t, files, 7)
	for _, file := range files {
		if filepath.Base(file) == "schema.sql" {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		blocks := strings.Split(string(text), "----\n")
		require.Greater(t, len(blocks), 20, file)
		for _, m := range modes {
			if m.name == "simple" && filepath.Ext(file) == ".msg" {
				continue
			}
			t.Run(filepath.Base(file)+", "+m.name, func(t *testing.T) {
				want, l := dial(t, address(dbs[0]), dbs[0]), dial(t, g.Addr().String(), g.source)
				for i, block := range blocks {
					parity(t, want, l, m.encode(t, file, block), fmt.Sprintf("%s, block %d: %.200s", file, i+1, block))
				}
			})
		}
	}
	eventually(t, "all have left", func() bool { return g.Status().Sessions == 0 })

	// Those that read what both sides have, with a move ahead of every other block.
	for _, base := range []string{"types.sql", "errors.sql", "sessions.sql", "pipelines.msg"} {
		text, err := os.ReadFile("testdata/parity/" + base)
		require.NoError(t, err)
		for _, m := range modes[1:] {
			t.Run(base+", moved, "+m.name, func(t *testing.T) {
				want, l := dial(t, address(dbs[0]), dbs[0]), dial(t, g.Addr().String(), g.source)
				moved := 0
				for i, block := range strings.Split(string(text), "----\n") {
					at := fmt.Sprintf("%s, block %d: %.200s", base, i+1, block)
					if i%2 == 0 && !strings.Contains(block, "-- stays") && l.boundary() {
						require.NoError(t, g.move(false), at)
						moved++
					}
					parity(t, want, l, m.encode(t, base, block), at)
				}
				require.Greater(t, moved, 10)
				_ = l.conn.Close()
				eventually(t, "it has left", func() bool { return g.Status().Sessions == 0 })
			})
		}
	}
}

// parity has both do the same and requires the same answer.
func parity(t testing.TB, want, l *lane, sends []byte, at string) {
	t.Helper()
	from, to := want.count(), l.count()
	want.send(sends)
	l.send(sends)
	same(t, want.normal(want.answered(from)), l.normal(l.answered(to)), at)
}

// boundary reports that all was answered and no transaction is open.
func (l *lane) boundary() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.tracker.Boundary()
}

// answered waits until everything that was sent is answered and returns the frames.
func (l *lane) answered(from int) []wire.Frame {
	l.t.Helper()
	l.await(from, "the answer", func([]wire.Frame) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		why := l.mu.tracker.Reason()
		return why == "" || why == wire.ReasonTransaction
	})
	l.mu.Lock() // the tracker is ahead of what await was shown
	defer l.mu.Unlock()
	return l.mu.frames[from:]
}
