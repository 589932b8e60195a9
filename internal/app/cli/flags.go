package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

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

// What the parser says of a value, without what comes after it: whose value it is, and what was
// given.
var (
	noValue      = regexp.MustCompile(`^--([a-z-]+): (?:expected \S+ value but got |missing value, expecting )`)
	noNumber     = regexp.MustCompile(`^--([a-z-]+): expected an? (?:valid \d+ bit )?u?int but got ("(?:[^"\\]|\\.)*")`)
	noDuration   = regexp.MustCompile(`^--([a-z-]+): expected duration but got ("(?:[^"\\]|\\.)*")`)
	noPair       = regexp.MustCompile(`^--([a-z-]+): expected "<key>=<value>" but got `)
	noneOf       = regexp.MustCompile(`^--([a-z-]+) must be one of (\S+) but got ("(?:[^"\\]|\\.)*")`)
	noBool       = regexp.MustCompile(`^--([a-z-]+): bool value must be .* but got `)
	excludes     = regexp.MustCompile(`^(--[a-z-]+) and (--[a-z-]+) can't be used together`)
	missingFlags = regexp.MustCompile(`^missing flags: (.*)$`)
	unknownShort = regexp.MustCompile(`^unknown flag (-[^-]),`)
	fromVariable = regexp.MustCompile(`\(from envar ([A-Z_]+)=`)
)

// unparsed rewrites the parser's error so that it says what is wrong and what to write. A value, or
// an argument that belongs to no flag, is shown only if it cannot be a secret: most often it is a
// connection string.
func unparsed(err error, args []string, model *kong.Application) error {
	said := err.Error()
	where := ""
	if m := fromVariable.FindStringSubmatch(said); m != nil {
		where = " (from " + m[1] + ")"
	}
	switch {
	case strings.HasPrefix(said, "unexpected argument "):
		shown, _, _ := strings.Cut(strings.TrimPrefix(said, "unexpected argument "), ",")
		if slices.Contains(args, shown) && plainWord.MatchString(shown) {
			return err
		}
		return errors.New("unexpected argument, which is not shown: a connection string is given with --source or --target")
	case noValue.MatchString(said):
		name := noValue.FindStringSubmatch(said)[1]
		return fmt.Errorf("--%s needs a value: write %s", name, written(model, name))
	case noNumber.MatchString(said):
		m := noNumber.FindStringSubmatch(said)
		return fmt.Errorf("--%s%s: %s is not a whole number: write one, such as %s", m[1], where, withheld(m[2]), written(model, m[1]))
	case noDuration.MatchString(said):
		m := noDuration.FindStringSubmatch(said)
		return fmt.Errorf("--%s%s: %s is not a duration: write a number with its unit, such as %s", m[1], where, withheld(m[2]), written(model, m[1]))
	case noneOf.MatchString(said):
		m := noneOf.FindStringSubmatch(said)
		return fmt.Errorf("--%s: %s is not one of the values that it takes: write one of %s", m[1], withheld(m[3]), strings.ReplaceAll(strings.ReplaceAll(m[2], `"`, ""), ",", ", "))
	case noPair.MatchString(said):
		name := noPair.FindStringSubmatch(said)[1]
		return fmt.Errorf("--%s%s: its value has no =: write %s", name, where, written(model, name))
	case noBool.MatchString(said):
		name := noBool.FindStringSubmatch(said)[1]
		return fmt.Errorf("--%s%s: it takes no value but true and false: write --%s, or leave it out", name, where, name)
	case excludes.MatchString(said):
		m := excludes.FindStringSubmatch(said)
		return fmt.Errorf("%s and %s cannot be combined: give one of them", m[1], m[2])
	case missingFlags.MatchString(said):
		first, _, _ := strings.Cut(strings.TrimPrefix(said, "missing flags: --"), "=")
		return fmt.Errorf("%s; give each here or in the environment, such as %s", said, "CROSSFADE_"+strings.ToUpper(strings.ReplaceAll(first, "-", "_")))
	case unknownShort.MatchString(said):
		return fmt.Errorf("unknown flag %s: flags have no short form, except -h: write them out, such as --json", unknownShort.FindStringSubmatch(said)[1])
	}
	return errors.New(withheld(said))
}

// plainWord is a text that is certainly no password: a command or a number that was mistyped.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// quoted is a value as it is written in an error.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// withheld leaves out of an error the values that look like a connection string.
func withheld(said string) string {
	return quoted.ReplaceAllStringFunc(said, func(value string) string {
		if strings.ContainsAny(value, ":=@/") {
			return "its value, which is not shown,"
		}
		return value
	})
}

// written is a flag with a value as it may be written.
func written(model *kong.Application, name string) string {
	f := flagOf(model.Node, name)
	switch {
	case f == nil:
		return "--" + name + "=VALUE"
	case f.PlaceHolder != "":
		return "--" + name + "=" + f.PlaceHolder
	case f.HasDefault && f.Default != "":
		return "--" + name + "=" + f.Default
	case f.Target.Type() == reflect.TypeFor[time.Duration]():
		return "--" + name + "=10s"
	case f.Target.CanInt():
		return "--" + name + "=4"
	case f.Target.Kind() == reflect.Map:
		return "--" + name + "=NAME=VALUE"
	}
	return "--" + name + "=VALUE"
}

// flagOf finds a flag by its name, nil for none.
func flagOf(n *kong.Node, name string) *kong.Flag {
	for _, f := range n.Flags {
		if f.Name == name {
			return f
		}
	}
	for _, c := range n.Children {
		if f := flagOf(c, name); f != nil {
			return f
		}
	}
	return nil
}
