package cli

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
)

// Wrong usage is told once, and what it says to write is taken: what is refused then is something
// else, a host that is a pooler or a daemon that is not there.
func TestWrongUsageIsTakenAsItIsWrittenThere(t *testing.T) {
	t.Parallel()
	both := []string{"--source=postgresql://u:p@ep-x-pooler.neon.tech/d", "--target=postgresql://u:p@b.example/d"}
	run, copies := append([]string{"run", "--listen=127.0.0.1:0"}, both...), append([]string{"copy"}, both...)
	cutover := []string{"cutover", "--control=" + t.TempDir() + "/none"}
	with := func(args []string, more ...string) []string { return append(append([]string{}, args...), more...) }
	instead := func(flag string) func(args []string, v string) []string {
		return func(args []string, v string) []string { return with(args[:len(args)-1], flag+"="+v) }
	}
	copied := func(args []string, v string) []string { return with([]string{v}, args[2:]...) }
	for name, x := range map[string]struct {
		args    []string
		says    string
		pattern string
		right   func(args []string, v string) []string
	}{
		"size":             {with(run, "--max-rate=fast"), `"fast" is no size: write bytes`, `such as (\w+), or none`, instead("--max-rate")},
		"time":             {with(copies, "--lock-wait-timeout=x"), `"x": write milliseconds, or a time`, `a time such as (\w+)`, instead("--lock-wait-timeout")},
		"check":            {with([]string{"check"}, with(both, "--include-schema=a")...), "a run moves the whole database into an empty one", `give (--copy) too`, func(args []string, v string) []string { return with(args, v) }},
		"bounds":           {with(cutover, "--attempts=0"), "--drain-timeout, --max-pause and --attempts must be above 0", `and (\d+) attempts`, instead("--attempts")},
		"argument":         {[]string{"check", both[0], "postgresql://u:p@b.example/d"}, "unexpected argument, which is not shown", `with --source or (--target)`, func(args []string, v string) []string { return with(args[:2], v+"="+args[2]) }},
		"part of a run":    {with(run, "--include-schema=a"), "--include-schema: run moves the whole database", `use crossfade (copy)`, copied},
		"data only, a run": {with(run, "--data-only"), "--data-only: run restores the schema by itself", `use crossfade (copy)`, copied},
		"clean, a run":     {with(run, "--clean"), "--clean: run begins with an empty target", `use crossfade (copy)`, copied},
		"missing":          {[]string{"check", both[0]}, "missing flags: --target=DSN; give each here", `flags: (--target)=DSN`, func(args []string, v string) []string { return with(args, v+"=postgresql://u:p@b.example/d") }},
		"no value":         {with(copies, "--jobs"), "--jobs needs a value", `write (--jobs=\d+)`, func(args []string, v string) []string { return with(args[:len(args)-1], v) }},
		"no number":        {with(copies, "--jobs=many"), `"many" is not a whole number`, `such as (--jobs=\d+)`, func(args []string, v string) []string { return with(args[:len(args)-1], v) }},
		"no time":          {with(cutover, "--drain-timeout=5"), `"5" is not a duration`, `such as (--drain-timeout=\w+)`, func(args []string, v string) []string { return with(args[:len(args)-1], v) }},
		"no choice":        {with(cutover, "--unmovable=kill"), `"kill" is not one of the values that it takes`, `write one of (\w+),`, instead("--unmovable")},
		"no pair": {with(copies, "--rename-database=x"), "its value has no =", `write --rename-database=(\S+)`, func(args []string, v string) []string {
			return with(args[:len(args)-1], "--rename-database="+v)
		}},
		"yes or no":           {with(cutover, "--json=maybe"), "it takes no value but true and false", `write (--json),`, func(args []string, v string) []string { return with(args[:len(args)-1], v) }},
		"short":               {with(cutover, "-x"), "unknown flag -x: flags have no short form, except -h", `such as (--json)`, func(args []string, v string) []string { return with(args[:len(args)-1], v) }},
		"half of a pair":      {[]string{"verify", both[0]}, "--source and --target go together", `give (both) to compare`, func([]string, string) []string { return with([]string{"verify"}, both...) }},
		"a daemon and a pair": {with([]string{"verify", "--control=" + t.TempDir() + "/none"}, both...), "--source and --target compare two databases without a daemon", `leave out (--control)`, func([]string, string) []string { return with([]string{"verify"}, both...) }},
		"two of a kind":       {with(cutover, "--dry-run", "--rehearse"), "--dry-run and --rehearse cannot be combined", `give one of (them)`, func(args []string, v string) []string { return args[:len(args)-1] }},
	} {
		said := func(args []string) string {
			var stdout, stderr bytes.Buffer
			code := Main(args, &stdout, &stderr)
			require.Contains(t, []int{exit.CodeUsage, exit.CodeRefused}, code, name)
			return strings.TrimSpace(stdout.String() + stderr.String())
		}
		refused := said(x.args)
		require.Equal(t, 1, strings.Count(refused, x.says), "%s: %s", name, refused)
		v := regexp.MustCompile(x.pattern).FindStringSubmatch(refused)
		require.NotNil(t, v, "%s: %s", name, refused)
		then := said(x.right(x.args, v[1]))
		require.NotContains(t, then, x.says, name)
		require.Regexp(t, "connection pooler|no daemon answers|--rename-database without --all-databases", then, name)
	}
}

// What the program does not do is told once.
func TestWhatIsNotDoneIsToldOnce(t *testing.T) {
	t.Parallel()
	for says, args := range map[string][]string{
		"--clients must be at least 1 and --accounts at least 10": {"demo", "--clients=0"},
	} {
		var stdout, stderr bytes.Buffer
		require.NotEqual(t, exit.CodeDone, Main(args, &stdout, &stderr))
		require.Equal(t, 1, strings.Count(stdout.String()+stderr.String(), says), stderr.String())
	}
}

// decides is a daemon whose cutover is decided before it can be withdrawn.
type decides struct {
	control.Daemon
	asked chan struct{}
}

func (d decides) Cutover(ctx context.Context, _ control.CutoverOptions, _ func(control.Event)) (control.CutoverReport, error) {
	close(d.asked)
	<-ctx.Done()
	return control.CutoverReport{Outcome: control.OutcomeSwitched, Epoch: 3}, nil
}

// Who withdraws a cutover too late is told once what became of it.
func TestACutoverThatCannotBeWithdrawnIsToldOnce(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "c")
	d := decides{asked: make(chan struct{})}
	s, err := control.Listen(control.Config{Socket: socket, Daemon: d, Log: zerolog.Nop()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- s.Run(ctx) }()
	go func() {
		_, err := control.NewClient(socket).Cutover(ctx, control.CutoverOptions{})
		ended <- err
	}()
	<-d.asked
	var stdout, stderr bytes.Buffer
	require.Equal(t, exit.CodeRefused, Main([]string{"cutover", "--cancel", "--control=" + socket}, &stdout, &stderr))
	const says = "the cutover could not be withdrawn any more: it was decided"
	require.Equal(t, 1, strings.Count(stdout.String()+stderr.String(), says), stderr.String())
	require.Contains(t, stdout.String(), "switched (epoch 3)")
	require.NoError(t, <-ended)
	cancel()
	require.NoError(t, <-ended)
}
