package obs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"crossfade/internal/base/retry"
)

// Names of log fields. Every package uses these and makes up no synonyms.
const (
	KeyAttempt    = "attempt"    // number of an attempt, from 1
	KeyComponent  = "component"  // part of the program that speaks
	KeyDatabase   = "database"   // name of a database
	KeyEndpoint   = "endpoint"   // "source" or "target"
	KeyEpoch      = "epoch"      // number of an attempt to change sides
	KeyError      = "error"      // what an error said; zerolog writes it by Err
	KeyLSN        = "lsn"        // a WAL position, as text
	KeyPID        = "pid"        // pg_backend_pid() of a server
	KeyRelation   = "relation"   // schema-qualified name of a table
	KeySession    = "session"    // number of a session in the proxy
	KeyState      = "state"      // state that was entered
	KeySuppressed = "suppressed" // repeated lines that were kept back
	KeyUser       = "user"       // name of a role
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

// Component returns a logger that names a part of the program, in place of the part that
// log names, if it does; what else its lines have stays. The library puts fields after
// those that are there, even of the same name, and a line would have the key twice.
func Component(log zerolog.Logger, name string) zerolog.Logger {
	fields := contextOf(log)
	ctx := log.With().Reset()
	for _, f := range fields {
		if f.key != KeyComponent {
			ctx = ctx.RawJSON(f.key, f.value)
		}
	}
	return ctx.Str(KeyComponent, name).Logger()
}

// field is one that every line of a logger has.
type field struct {
	key   string
	value json.RawMessage
}

// contextOf reads the fields of a logger from a line of its own that goes nowhere. What
// its hooks add, such as the time, is added to each line again and is left out.
func contextOf(log zerolog.Logger) []field {
	var line bytes.Buffer
	probe := log.Output(&line).Level(zerolog.TraceLevel)
	probe.Log().Send()
	var all []field
	d := json.NewDecoder(&line)
	if _, err := d.Token(); err != nil {
		return nil
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil
		}
		if k, ok := key.(string); ok && k != zerolog.TimestampFieldName {
			all = append(all, field{k, value})
		}
	}
	return all
}
