package workload

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
)

const (
	// psqlExit bounds the end of a psql that was told to quit.
	psqlExit = 5 * time.Second
	// fieldSeparator is psql's between two columns: a byte that no value holds.
	fieldSeparator = "\x1f"
	// The marks that psql is told to print after each answer: rows end, then the
	// server's message if there was one, then whether there was.
	markRows = "crossfade-rows-end"
	markEnd  = "crossfade-end"
)

// psqlSession is a psql child. It writes a statement to psql's standard input and
// reads its standard output up to a mark; one goroutine of package exec collects
// what psql says on standard error, until close.
type psqlSession struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	said   *lastWords
	gone   bool
	reaped bool
}

func openPSQL(ctx context.Context, dsn pg.DSN, path, name string) (*psqlSession, error) {
	conninfo, env := dsn.LibpqEnv()
	cmd := exec.Command(path, "--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--no-password",
		"--field-separator="+fieldSeparator, "--dbname="+conninfo)
	cmd.Env = append(append(os.Environ(), env...), "PGAPPNAME="+name, "LC_ALL=C", "PGCONNECT_TIMEOUT="+strconv.Itoa(int(loginTimeout.Seconds())))
	s := &psqlSession{cmd: cmd, said: &lastWords{}}
	cmd.Stderr = s.said
	cmd.WaitDelay = psqlExit
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start psql: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start psql: %w", err)
	}
	s.in, s.out = in, bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start psql: %w", err)
	}
	if _, err := s.query(ctx, sql("SELECT 1")); err != nil {
		s.close(ctx)
		return nil, fmt.Errorf("connect to %s with psql: %w", dsn.Redacted(), err)
	}
	return s, nil
}

func (s *psqlSession) query(ctx context.Context, st statement) ([][]string, error) {
	return s.rows(ctx, interpolate(st)+";\n")
}

func (s *psqlSession) exec(ctx context.Context, text string) error {
	_, err := s.rows(ctx, text+";\n")
	return err
}

// burst joins the statements with \; which psql sends as one Query message.
func (s *psqlSession) burst(ctx context.Context, sts []statement) ([][]string, error) {
	all := make([]string, len(sts))
	for i, st := range sts {
		all[i] = interpolate(st)
	}
	return s.rows(ctx, strings.Join(all, ` \; `)+";\n")
}

func (s *psqlSession) commit(ctx context.Context) (string, error) {
	rows, err := s.rows(ctx, "\\set QUIET off\nCOMMIT;\n\\set QUIET on\n")
	if err != nil {
		return "", err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return "", fmt.Errorf("psql printed %q for COMMIT", rows)
	}
	return rows[0][0], nil
}

// rows sends input and reads the answer. The end of ctx kills psql.
func (s *psqlSession) rows(ctx context.Context, input string) ([][]string, error) {
	if s.gone {
		return nil, errors.New("psql is gone")
	}
	stop := context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })
	defer stop()
	input += `\echo ` + markRows + "\n" + `\echo :LAST_ERROR_MESSAGE` + "\n" + `\echo ` + markEnd + " :ERROR :SQLSTATE\n"
	if _, err := io.WriteString(s.in, input); err != nil {
		return nil, s.died(ctx, err)
	}
	var rows [][]string
	var message []string
	inMessage := false
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			return nil, s.died(ctx, err)
		}
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, markEnd+" "); ok && inMessage {
			failed, code, _ := strings.Cut(rest, " ")
			if failed == "true" {
				return nil, &pgconn.PgError{Severity: "ERROR", Code: code, Message: strings.Join(message, " ")}
			}
			return rows, nil
		}
		switch {
		case inMessage:
			message = append(message, line)
		case line == markRows:
			inMessage = true
		default:
			rows = append(rows, strings.Split(line, fieldSeparator))
		}
	}
}

// died waits for psql, so that all its words are there, and quotes them.
func (s *psqlSession) died(ctx context.Context, err error) error {
	s.gone = true
	s.reap()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("psql ended: %w: %s", err, s.said)
}

func (s *psqlSession) lost() bool { return s.gone }

func (s *psqlSession) close(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })
	defer stop()
	kill := time.AfterFunc(psqlExit, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	s.gone = true
	s.reap()
}

// reap ends psql's input, upon which it ends, and collects it.
func (s *psqlSession) reap() {
	if s.reaped {
		return
	}
	s.reaped = true
	_ = s.in.Close()
	_, _ = io.Copy(io.Discard, s.out) // Wait must not be called before the end of the output
	_ = s.cmd.Wait()
}

var parameter = regexp.MustCompile(`\$[0-9]+`)

// interpolate puts the parameters into the statement as literals.
func interpolate(st statement) string {
	return parameter.ReplaceAllStringFunc(st.sql, func(p string) string {
		n, err := strconv.Atoi(p[1:])
		if err != nil || n < 1 || n > len(st.args) {
			return p // a parameter of PREPARE, not of ours
		}
		switch v := st.args[n-1].(type) {
		case int64:
			return "(" + strconv.FormatInt(v, 10) + ")"
		default:
			return pg.QuoteLiteral(fmt.Sprint(v))
		}
	})
}

// lastWords keeps the end of what a child says.
type lastWords struct {
	mu  sync.Mutex
	buf []byte
}

const maxLastWords = 1 << 10

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	if n := len(w.buf) - maxLastWords; n > 0 {
		w.buf = w.buf[n:]
	}
	return len(p), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(strings.Fields(string(w.buf)), " ")
}
