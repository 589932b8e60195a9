package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"crossfade/internal/app/control"
	"crossfade/internal/app/options"
)

// askPatience bounds how long an answer is waited for. The sessions that the copy has
// opened wait too.
const askPatience = 5 * time.Minute

// errInterrupted is the end of a question by a signal.
var errInterrupted = errors.New("interrupted before an answer")

// allowRemoval shows what is to be dropped, and asks on a terminal whether it may be.
func allowRemoval(ctx context.Context, e *env, r options.Removal, yes bool) error {
	for _, o := range r.Objects {
		if e.lines != nil {
			shown := e.lines.Level(zerolog.InfoLevel) // whatever else is left out
			shown.Info().Str("kind", o.Kind).Str("object", o.Name).Int64("bytes", o.Size).Msg("to be dropped on the target")
			continue
		}
		text := fmt.Sprintf("to be dropped on the target: %s %s", o.Kind, o.Name)
		if o.Size > 0 {
			text += fmt.Sprintf(" (%s)", bytesText(o.Size))
		}
		fmt.Fprintln(e.stderr, text)
	}
	what := fmt.Sprintf("%d objects of %s", len(r.Objects), r.Target)
	if yes {
		return nil
	}
	if !terminal(e.stdin) || !terminal(e.stderr) {
		return fmt.Errorf("--clean would drop %s; nothing was dropped: look at the list, then give --yes", what)
	}
	ok, err := ask(ctx, e.stdin, e.stderr, "Drop these "+what+"? [y/N] ")
	switch {
	case err != nil:
		return fmt.Errorf("ask whether --clean may drop %s: %w; nothing was dropped", what, err)
	case !ok:
		return fmt.Errorf("--clean may not drop %s; nothing was dropped", what)
	}
	return nil
}

// allowFinish shows what a finish does, and asks on a terminal whether it may.
func allowFinish(ctx context.Context, e *env, plan control.FinishReport) error {
	if !terminal(e.stdin) || !terminal(e.stderr) {
		return errors.New("finish ends the migration for good and asks first, which needs a terminal; nothing was changed: give --yes")
	}
	printEach(e.stderr, "to be dropped:", plan.Dropped)
	printEach(e.stderr, "to be kept:", plan.Kept)
	ok, err := ask(ctx, e.stdin, e.stderr, "End the migration for good? [y/N] ")
	switch {
	case err != nil:
		return fmt.Errorf("ask whether to finish: %w; nothing was changed", err)
	case !ok:
		return errors.New("not finished; nothing was changed")
	}
	return nil
}

// terminal reports whether someone sits at the other end.
func terminal(x any) bool {
	f, ok := x.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ask puts a question and reads a line. Only y and yes are a yes. When it gives up, the
// goroutine that reads stays until a line or the end comes.
func ask(ctx context.Context, in io.Reader, out io.Writer, question string) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askPatience, fmt.Errorf("no answer within %v", askPatience))
	defer cancel()
	fmt.Fprint(out, question)
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(in).ReadString('\n')
		read <- line{text, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(out)
		if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
			return false, err
		}
		return false, errInterrupted
	case l := <-read:
		if l.err != nil && !(errors.Is(l.err, io.EOF) && l.text != "") {
			return false, l.err
		}
		answer := strings.ToLower(strings.TrimSpace(l.text))
		return answer == "y" || answer == "yes", nil
	}
}
