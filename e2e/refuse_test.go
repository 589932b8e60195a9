package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// refusal is one way to begin wrongly.
type refusal struct {
	name    string
	prepare func(t *testing.T, s *sides)
	command []string              // "run" with its flags unless given
	source  func(s *sides) string // connection string; the right one unless given
	target  func(s *sides) string
	code    int
	says    []string // each must be in the one line
	dump    int      // version that pg_dump says it is of, 0 for the real one
}

func refusals() []refusal {
	exec := func(sql string) func(t *testing.T, s *sides) {
		return func(t *testing.T, s *sides) { pgtest.Exec(t, pgtest.Conn(t, s.source), sql) }
	}
	onTarget := func(sql string) func(t *testing.T, s *sides) {
		return func(t *testing.T, s *sides) { pgtest.Exec(t, pgtest.Conn(t, s.target), sql) }
	}
	return []refusal{
		{name: "wrong password of the source", code: 1, source: func(s *sides) string { return uri(s.source.WithUser(s.source.User(), "wr0ng")) },
			says: []string{"source: ", "password authentication failed", "check the password"}},
		{name: "wrong password of the target", code: 1, target: func(s *sides) string { return uri(s.target.WithUser(s.target.User(), "wr0ng")) },
			says: []string{"target: ", "password authentication failed", "check the password"}},
		{name: "unknown database", code: 1, target: func(s *sides) string { return uri(s.target.WithDatabase("nowhere")) },
			says: []string{"target: ", `database "nowhere" does not exist`, "create the database"}},
		{name: "target lacks an extension", code: 1, prepare: lacksExtension, says: []string{"xfade_test_ext", "extension"}},
		{name: "table without replica identity", code: 1, prepare: exec(`CREATE TABLE public.keyless (a int)`),
			says: []string{"public.keyless", "REPLICA IDENTITY"}},
		{name: "no right on one sequence", code: 1, prepare: foreignSequence, says: []string{"public.not_yours", "GRANT"}},
		{name: "target not empty", code: 1, prepare: onTarget(`CREATE TABLE public.here_already (a int)`), says: []string{"here_already"}},
		{name: "pg_dump older than the source", code: 1, dump: 11, says: []string{"pg_dump 11 refuses a server of version", "install PostgreSQL's client programs of version"}},
		{name: "typo in the connection string", code: 2, source: func(s *sides) string { return "postgresql://" + s.source.User() + ":s3cret@localhost:54x2/db" },
			says: []string{"--source", "port"}},
		{name: "mistyped parameter", code: 2, source: func(s *sides) string { return uri(s.source) + "&ssl_mode=require" },
			says: []string{"--source", `"ssl_mode"`, "did you mean sslmode?"}},
		{name: "variable without effect", code: 2, target: func(*sides) string { return "postgresql://u@h/d?sslcrl=/x" }, says: []string{"--target", "sslcrl", "revoked"}},
		{name: "pooler", code: 2, target: func(*sides) string {
			return "postgresql://u:s3cret@ep-cool-darkness-123456-pooler.eu-central-1.aws.neon.tech/db"
		},
			says: []string{"pooler", "ep-cool-darkness-123456.eu-central-1.aws.neon.tech"}},
	}
}

// lacksExtension installs an extension on the source that the target's cluster
// cannot install: one that the test makes itself, as far as the catalog goes.
func lacksExtension(t *testing.T, s *sides) {
	t.Helper()
	c := adminOf(t, s.sourceCluster, s.source.Database())
	pgtest.Exec(t, c, `INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
		VALUES (99999, 'xfade_test_ext', 10, 'public'::regnamespace, true, '1.0')`)
	t.Cleanup(func() {
		pgtest.Exec(t, adminOf(t, s.sourceCluster, s.source.Database()), `DELETE FROM pg_extension WHERE extname = 'xfade_test_ext'`)
	})
}

func foreignSequence(t *testing.T, s *sides) {
	t.Helper()
	pgtest.Exec(t, adminOf(t, s.sourceCluster, s.source.Database()), `CREATE SEQUENCE public.not_yours; SELECT nextval('public.not_yours')`)
}

func TestWhatCannotWorkIsRefusedInOneLine(t *testing.T) {
	t.Parallel()
	for _, r := range refusals() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := newSides(t)
			pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.kept (id int PRIMARY KEY)`)
			if r.prepare != nil {
				r.prepare(t, s)
			}
			r.try(t, s)
		})
	}
}

func TestAPortInUseIsRefused(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	refusal{code: 1, command: []string{"run", "--listen=" + l.Addr().String()}, says: []string{l.Addr().String(), "listen for clients at ", "address already in use", "choose another address with --listen"}}.try(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	require.Equal(t, 0, p.stop())
}

func TestASourceThatDoesNotDecodeIsRefusedForRunOnly(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source, func(cfg *pgcluster.Config) { cfg.Settings = map[string]string{"wal_level": "replica"} })
	s := &sides{sourceCluster: c, targetCluster: neontest.Shared(t), source: pgtest.Database(t, c)}
	s.neon = neontest.Endpoint(t, s.targetCluster)
	s.target = neontest.Database(t, s.neon)
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.kept (id int PRIMARY KEY, b text); INSERT INTO public.kept VALUES (1, 'x'), (2, 'y')`)
	refusal{code: 1, says: []string{"wal_level", "logical"}}.try(t, s)
	out, code := program(t, s.env(), "copy")
	require.Equal(t, 0, code, out)
	require.Equal(t, "1x2y", pgtest.Value(t, pgtest.Conn(t, s.target), `SELECT string_agg(id || b, '' ORDER BY id) FROM public.kept`))
	s.requireNothingLeft(t)
}

// try runs the command and looks at what it says and leaves.
func (r refusal) try(t *testing.T, s *sides) {
	t.Helper()
	env := s.env()
	if r.source != nil {
		env[0] = "CROSSFADE_SOURCE=" + r.source(s)
	}
	if r.target != nil {
		env[1] = "CROSSFADE_TARGET=" + r.target(s)
	}
	if r.command == nil {
		r.command = []string{"run", "--listen=127.0.0.1:0"}
	}

	if r.dump != 0 {
		env = append(env, pretendDump(t, r.dump)...)
	}
	dir, err := os.MkdirTemp("", "cf")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	out, code := program(t, env, append(r.command, "--control="+filepath.Join(dir, "c.sock"))...)
	require.Equal(t, r.code, code, out)
	said := refusedWith(t, out)
	for _, want := range r.says {
		require.Contains(t, said, want, out)
	}
	for _, secret := range []string{"wr0ng", "s3cret", s.source.Password(), s.target.Password()} {
		require.NotContains(t, out, secret)
	}
	_, err = os.Stat(filepath.Join(dir, "c.sock"))
	require.ErrorIs(t, err, os.ErrNotExist, "the control socket is gone")
	s.requireNothingLeft(t)
}

// refusedWith is the one line with which a command refuses, and where findings do, what it
// prints of them after it.
func refusedWith(t *testing.T, out string) string {
	t.Helper()
	said, findings := "", ""
	for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
		switch {
		case strings.HasPrefix(l, "crossfade: "):
			require.Empty(t, said, "one line, not two: %s", out)
			said = l
		case strings.HasPrefix(l, "blocker ") || strings.HasPrefix(strings.TrimSpace(l), "do: "):
			findings += "\n" + l
		}
	}
	if strings.HasPrefix(said, "crossfade: not begun") {
		said += findings
	}
	return said
}

// refusedFor fails unless a command was refused by findings that say all of the words.
func refusedFor(t *testing.T, out string, words ...string) {
	t.Helper()
	said := strings.Join(strings.Fields(refusedWith(t, out)), " ")
	require.True(t, strings.HasPrefix(said, "crossfade: not begun"), out)
	for _, w := range words {
		require.Contains(t, said, w)
	}
}

// A run that refuses prints what check prints, and its statements, typed as they are
// printed, remove what refuses.
func TestRunRefusesAsCheckPrints(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.kept (id int PRIMARY KEY); CREATE TABLE public.keyless (a int)`)
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	pgtest.Exec(t, admin, `CREATE ROLE other_`+s.source.User())
	t.Cleanup(func() { pgtest.DropRole(t, s.sourceCluster, s.source.Database(), "other_"+s.source.User()) })
	pgtest.Exec(t, admin, `CREATE TABLE public.one (id int PRIMARY KEY); CREATE TABLE public.two (id int PRIMARY KEY); CREATE TABLE public.three (id int PRIMARY KEY);
		ALTER TABLE public.one OWNER TO other_`+s.source.User()+`; ALTER TABLE public.two OWNER TO other_`+s.source.User()+`; ALTER TABLE public.three OWNER TO other_`+s.source.User())
	out, code := s.say(t, nil, "run")
	require.Equal(t, 1, code, out)
	said := refusedWith(t, out)
	require.Equal(t, 3, strings.Count(said, "table_not_owned"), said)
	require.NotContains(t, said, " | ")
	checked, code := s.say(t, nil, "check")
	require.Equal(t, 1, code, checked)
	fields := func(text string) (lines []string) {
		for _, l := range strings.Split(text, "\n") {
			if f := strings.Fields(l); len(f) > 0 && f[0] == "blocker" {
				lines = append(lines, strings.Join(f, " "))
			}
		}
		return lines
	}
	require.NotEmpty(t, fields(said))
	require.ElementsMatch(t, fields(checked), fields(said))
	require.Equal(t, 1, strings.Count(checked, "do: on the source: GRANT"), "with one remedy for all three: %s", checked)

	sql := s.statements(t, "--on=source")
	require.Equal(t, []string{`GRANT "other_` + s.source.User() + `" TO "` + s.source.User() + `";`, "ALTER TABLE "}, []string{sql[0], sql[1][:12]}, "nothing but statements, each once: %q", sql)
	require.Len(t, sql, 2)
	require.Equal(t, sql, s.statements(t), "where one side alone has some")
	psql := exec.Command("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", uri(s.sourceCluster.AdminDSN(s.source.Database())))
	psql.Stdin = strings.NewReader(strings.Join(sql, "\n"))
	piped, err := psql.CombinedOutput()
	require.NoError(t, err, string(piped))
	require.Empty(t, string(piped))
	out, code = s.say(t, nil, "check")
	require.Equal(t, 0, code, out)
}

// statements are the lines of check --sql on its standard output.
func (s *sides) statements(t *testing.T, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"check", "--sql"}, args...)...)
	cmd.Env = append(os.Environ(), s.env()...)
	out, err := cmd.Output()
	var ee *exec.ExitError
	require.ErrorAs(t, err, &ee)
	require.Equal(t, 1, ee.ExitCode(), string(ee.Stderr))
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// env hands the connection strings to the program, where no list of processes
// shows them.
func (s *sides) env() []string {
	return []string{"CROSSFADE_SOURCE=" + uri(s.source), "CROSSFADE_TARGET=" + uri(s.target)}
}

// program runs a command to its end and returns what it said and its exit code.
func program(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	require.NoError(t, ctx.Err(), "the program does not end: %s", out)
	if err != nil {
		var ee *exec.ExitError
		require.ErrorAs(t, err, &ee)
	}
	return endText(string(out)), cmd.ProcessState.ExitCode()
}

// endText writes the line of a log that says why the program ended as a terminal shows it.
func endText(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		var end struct{ Message, Error, Code, Object, Detail, Remedy string }
		if json.Unmarshal([]byte(line), &end) == nil {
			switch end.Message {
			case "ended with an error":
				line = "crossfade: " + end.Error + "\n"
			case "refused":
				line = fmt.Sprintf("blocker %s %s %s\ndo: %s\n", end.Code, end.Object, end.Detail, end.Remedy)
			}
		}
		b.WriteString(line)
	}
	return b.String()
}
