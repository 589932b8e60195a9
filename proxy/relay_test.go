package proxy

import (
	"bytes"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/proxy/poll"
)

// psql runs a script through the proxy as psql does.
func (g *rig) psql(t *testing.T, script string) string {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	conninfo, env := g.client.LibpqEnv()
	cmd := exec.CommandContext(within(t), b.Path("psql"), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", conninfo)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestPsql(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.both(t, "CREATE TABLE public.t (id int, v text)")
	out := g.psql(t, `
		INSERT INTO t SELECT n, repeat('x', n) FROM generate_series(1, 2000) n;
		\copy t (id) FROM PROGRAM 'seq 3001 3100'
		\copy t TO PROGRAM 'wc -l >&2'
		BEGIN; DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id; FETCH 3 FROM c; COMMIT;
		SELECT count(*), sum(length(v)) FROM t; SELECT 1\; SELECT 2;
	`)
	require.Equal(t, "2100\n1\n2\n3\n2100|2001000\n1\n2\n", out)
}

func TestLargeRowsAndCopy(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.both(t, "CREATE TABLE public.t (id int, v text)")
	conn := g.dial(t)
	for _, size := range []int{0, 1, poll.BufferSize - 7, poll.BufferSize, poll.BufferSize + 1, 5 << 20} {
		want := strings.Repeat("é", size/2)
		var got string
		require.NoError(t, conn.QueryRow(within(t), "SELECT $1::text", want).Scan(&got))
		require.Equal(t, len(want), len(got))
		require.True(t, want == got)
	}
	var in bytes.Buffer
	for i := range 50000 {
		in.WriteString(strconv.Itoa(i) + "\tsome text of row " + strconv.Itoa(i) + "\n")
	}
	want := in.String()
	tag, err := conn.PgConn().CopyFrom(within(t), &in, "COPY public.t FROM STDIN")
	require.NoError(t, err)
	require.EqualValues(t, 50000, tag.RowsAffected())
	var out bytes.Buffer
	_, err = conn.PgConn().CopyTo(within(t), &out, "COPY (SELECT * FROM public.t ORDER BY id) TO STDOUT")
	require.NoError(t, err)
	require.True(t, want == out.String())

	_, err = conn.PgConn().CopyFrom(within(t), strings.NewReader("not a number\tx\n"), "COPY public.t FROM STDIN")
	require.Equal(t, "22P02", pg.Code(err))
	_, err = conn.PgConn().CopyFrom(within(t), io.MultiReader(strings.NewReader("1\tx\n"), failing{}), "COPY public.t FROM STDIN")
	require.Error(t, err)
	require.Equal(t, "50000", value(t, conn, "SELECT count(*) FROM public.t"))
	g.toTarget(t)
	require.Equal(t, "0", value(t, conn, "SELECT count(*) FROM public.t"), "a session moves behind a COPY that failed")
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestPipelines(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	conn := g.dial(t)
	for range 3 {
		p := conn.PgConn().StartPipeline(within(t))
		for i := range 500 {
			p.SendQueryParams("SELECT $1::int, repeat('x', 1000)", [][]byte{[]byte(strconv.Itoa(i))}, nil, nil, nil)
			if i%7 == 0 {
				require.NoError(t, p.Sync())
			}
		}
		require.NoError(t, p.Sync())
		n := 0
		for n < 500 {
			res, err := p.GetResults()
			require.NoError(t, err)
			if rr, ok := res.(*pgconn.ResultReader); ok {
				rows := rr.Read()
				require.NoError(t, rows.Err)
				require.Equal(t, strconv.Itoa(n), string(rows.Rows[0][0]))
				n++
			}
		}
		require.NoError(t, p.Close())
		g.toTarget(t)
		g.toSource(t)
	}
}

func TestStartupParametersReachBothSides(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	conn := g.dial(t, func(c *pgx.ConnConfig) {
		c.DefaultQueryExecMode = pgx.QueryExecModeExec // DISCARD ALL takes prepared statements away
		c.RuntimeParams = map[string]string{
			"application_name": "the app", "DateStyle": "German", "search_path": `"a b", public`, "app.start": `x\ y`,
			"options": `-c work_mem=7MB -c lock_timeout=12s`,
		}
	})
	check := func(conn *pgx.Conn) {
		t.Helper()
		for name, want := range map[string]string{
			"application_name": "the app", "DateStyle": "German, DMY", "search_path": `"a b", public`, "app.start": `x\ y`,
			"work_mem": "7MB", "lock_timeout": "12s",
		} {
			require.Equal(t, want, value(t, conn, "current_setting('"+name+"')"), name)
		}
	}
	check(conn)
	g.toTarget(t)
	check(conn)
	run(t, conn, "SET work_mem = '1MB'")
	run(t, conn, "DISCARD ALL")
	check(conn)
	fresh := g.dial(t, func(c *pgx.ConnConfig) {
		c.RuntimeParams = map[string]string{
			"application_name": "the app", "DateStyle": "German", "search_path": `"a b", public`, "app.start": `x\ y`,
			"options": `-c work_mem=7MB -c lock_timeout=12s`,
		}
	})
	check(fresh)
	require.Equal(t, "German, DMY", fresh.PgConn().ParameterStatus("DateStyle"))
}
