package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"crossfade/internal/base/lists"
)

// configFlag is the path of a JSON file with values for the other flags of a command.
type configFlag string

// BeforeResolve reads the file. An error names it.
func (configFlag) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	path := string(ctx.FlagValue(trace.Flag).(configFlag)) //nolint:forcetypeassert // it is this type's hook
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	values, err := readConfig(f)
	if err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	ctx.AddResolver(values)
	return nil
}

// config are the values of a file, by the flag's name with "_" for "-".
type config map[string]any

func readConfig(r io.Reader) (config, error) {
	values := map[string]any{}
	d := json.NewDecoder(r)
	if err := d.Decode(&values); err != nil {
		return nil, fmt.Errorf("read JSON object: %w", err)
	}
	if d.More() {
		return nil, fmt.Errorf("there is more than one JSON object in it")
	}
	c := config{}
	for name, v := range values {
		c[strings.ReplaceAll(name, "-", "_")] = v
	}
	return c, nil
}

// Validate does nothing: what flags there are is known when they are resolved.
func (config) Validate(*kong.Application) error { return nil }

// Resolve returns the value of a flag, or nil.
func (c config) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	known := lists.SetOf(ctx.Flags(), func(f *kong.Flag) string { return strings.ReplaceAll(f.Name, "-", "_") })
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if !known[name] {
			return nil, fmt.Errorf("--config: there is no flag %q", name)
		}
	}
	return c[strings.ReplaceAll(flag.Name, "-", "_")], nil
}
