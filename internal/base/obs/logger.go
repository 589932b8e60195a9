package obs

import (
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"crossfade/internal/base/retry"
)

// Formats of NewLogger.
const (
	FormatAuto = "auto" // text on a terminal, JSON elsewhere
	FormatJSON = "json" // one object a line
	FormatText = "text" // for people
)

// timeLayout is RFC 3339 with milliseconds: a pause of a cutover is shorter
// than the second that the library writes by default.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// The library keeps the layout of times in a global; it is set once, before any logger exists.
func init() { zerolog.TimeFieldFormat = timeLayout }

// NewLogger returns a logger that writes to w. format is FormatAuto,
// FormatJSON, FormatText or empty (auto); level is one of zerolog's names
// (trace, debug, info, warn, error, disabled) or empty (info). w is written to
// one line at a time by any number of goroutines: it must allow that, as an
// *os.File does. The caller keeps w and closes it.
func NewLogger(format, level string, w io.Writer) (zerolog.Logger, error) {
	lvl := zerolog.InfoLevel
	if level != "" {
		var err error
		if lvl, err = zerolog.ParseLevel(level); err != nil {
			return zerolog.Nop(), fmt.Errorf("log level %q: want trace, debug, info, warn, error or disabled", level)
		}
	}
	switch format {
	case FormatJSON:
	case FormatText:
		w = text(w, isTerminal(w))
	case FormatAuto, "":
		if isTerminal(w) {
			w = text(w, true)
		}
	default:
		return zerolog.Nop(), fmt.Errorf("log format %q: want auto, json or text", format)
	}
	return zerolog.New(w).Level(lvl).With().Timestamp().Logger(), nil
}

func text(w io.Writer, colour bool) io.Writer {
	return zerolog.ConsoleWriter{Out: w, NoColor: !colour || os.Getenv("NO_COLOR") != "", TimeFormat: "15:04:05.000"}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Retrying returns a callback for retry.Policy.OnRetry that warns at once and
// then at most once a minute, with the number of failures in between. msg says
// what is tried again, for example "connect to source again".
func Retrying(log zerolog.Logger, msg string) func(retry.Attempt) {
	return retry.Limited(func(a retry.Attempt, suppressed int) {
		log.Warn().Err(a.Err).Int(KeyAttempt, a.Number).Int(KeySuppressed, suppressed).Msg(msg)
	})
}
