package obs

import (
	"bytes"
	"encoding/json"

	"github.com/rs/zerolog"
)

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
