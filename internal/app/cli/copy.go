package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"crossfade/internal/app/exit"
	"crossfade/internal/app/oneshot"
	"crossfade/internal/app/options"
)

// copyCmd has the flags that people know from pg_dump and pg_restore, with the same meaning.
type copyCmd struct {
	databases
	schemaFlags
	Jobs    int      `help:"Maximum number of COPY streams; fewer are used while the target is overloaded." default:"${jobs}"`
	MaxRate sizeFlag `help:"Limit in bytes per second, all streams together, such as 20M, or none." default:"none" placeholder:"RATE"`
	Control string   `help:"Path of a control socket, at which crossfade limits and status reach the copy." placeholder:"SOCKET"`
	partFlags
	LargeObjects   bool              `help:"Copy large objects too."`
	KeepCopied     bool              `help:"After a failure, keep tables that were copied completely, although they are from an earlier moment than the rest."`
	ExitOnError    bool              `help:"Stop at the first statement that the target refuses; by default the rest is done, and what was refused is listed."`
	Yes            bool              `help:"Do not ask before dropping what --clean lists."`
	AllDatabases   bool              `help:"Copy every database of the source's server, one after the other."`
	RenameDatabase map[string]string `help:"Name on the target of a database, with --all-databases." placeholder:"OLD=NEW"`
}

// partFlags say what a copy takes along, and where it goes. A check has them too.
type partFlags struct {
	IncludeSchema    []string `help:"Only schemas that match; like pg_dump -n." placeholder:"PATTERN" sep:"none"`
	ExcludeSchema    []string `help:"Leave out schemas that match; like pg_dump -N." placeholder:"PATTERN" sep:"none"`
	IncludeTable     []string `help:"Only tables, views and sequences that match; like pg_dump -t." placeholder:"PATTERN" sep:"none"`
	ExcludeTable     []string `help:"Leave out tables that match; like pg_dump -T." placeholder:"PATTERN" sep:"none"`
	ExcludeTableData []string `help:"Leave out the rows of tables that match." placeholder:"PATTERN" sep:"none"`
	SchemaOnly       bool     `help:"Copy the schema, no rows."`
	DataOnly         bool     `help:"Copy rows into existing, empty tables."`
	Clean            bool     `help:"First drop on the target what will be copied. The objects are listed, and you are asked."`
}

// given names the first of the flags that is given, "" for none.
func (f partFlags) given() string {
	for _, x := range []struct {
		given bool
		flag  string
	}{
		{len(f.IncludeSchema) > 0, "include-schema"}, {len(f.ExcludeSchema) > 0, "exclude-schema"},
		{len(f.IncludeTable) > 0, "include-table"}, {len(f.ExcludeTable) > 0, "exclude-table"}, {len(f.ExcludeTableData) > 0, "exclude-table-data"},
		{f.SchemaOnly, "schema-only"}, {f.DataOnly, "data-only"}, {f.Clean, "clean"},
	} {
		if x.given {
			return x.flag
		}
	}
	return ""
}

// options returns the flags as the daemon's options.
func (f partFlags) options() options.Copy {
	return options.Copy{
		Filter: options.Filter{IncludeSchemas: f.IncludeSchema, ExcludeSchemas: f.ExcludeSchema,
			IncludeTables: f.IncludeTable, ExcludeTables: f.ExcludeTable, ExcludeTablesData: f.ExcludeTableData},
		SchemaOnly: f.SchemaOnly, DataOnly: f.DataOnly, Clean: f.Clean,
	}
}

// schemaFlags are the flags of copy that run and check have as well.
type schemaFlags struct {
	NoOwner         bool     `help:"Leave every object to the role of --target."`
	NoACL           bool     `help:"Leave privileges out." name:"no-acl"`
	NoComments      bool     `help:"Leave comments out."`
	Roles           bool     `help:"Create the source's roles on the target, without passwords."`
	LockWaitTimeout lockWait `help:"Longest wait for a lock on a table of the source while its schema is read, in milliseconds or with a unit, such as 20s." default:"10s"`
}

func (f schemaFlags) options() options.Schema {
	return options.Schema{NoOwner: f.NoOwner, NoACL: f.NoACL, NoComments: f.NoComments, Roles: f.Roles, LockWaitTimeout: f.LockWaitTimeout.Duration}
}

// lockWait is a time as pg_dump takes it: a number of milliseconds, or a number with a unit.
type lockWait struct{ time.Duration }

// UnmarshalText reads it.
func (w *lockWait) UnmarshalText(text []byte) error {
	if ms, err := strconv.Atoi(string(text)); err == nil {
		w.Duration = time.Duration(ms) * time.Millisecond
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q: write milliseconds, or a time such as 20s", text)
	}
	w.Duration = d
	return nil
}

// options returns the flags as the daemon's options.
func (c *copyCmd) options() options.Copy {
	o := c.partFlags.options()
	o.Schema = c.schemaFlags.options()
	o.Jobs, o.LargeObjects, o.KeepCopied, o.ExitOnError = c.Jobs, c.LargeObjects, c.KeepCopied, c.ExitOnError
	o.MaxRate, o.Control, o.Version = int64(c.MaxRate), c.Control, Version
	o.AllDatabases, o.RenameDatabase = c.AllDatabases, c.RenameDatabase
	return o
}

// Run copies once.
func (c *copyCmd) Run(e *env) error {
	defer outliveReader()()
	log, err := e.logger()
	if err != nil {
		return err
	}
	if err := c.check(e); err != nil {
		return err
	}
	watch := newProgress(e)
	defer watch.close()
	opts := c.options()
	opts.Allow = func(ctx context.Context, r options.Removal) error { return allowRemoval(ctx, e, r, c.Yes) }
	report, err := oneshot.Copy(e.ctx, c.Source.DSN, c.Target.DSN, opts, log, watch.copying)
	watch.close()
	printCopy(e.stdout, report)
	return err
}

// copyOnlyFlags are flags of copy that a run refuses: its target must have all
// that the applications may ask for after the cutover.
type copyOnlyFlags struct {
	hiddenPartFlags
	AllDatabases bool `hidden:""`
}

// hiddenPartFlags are partFlags that no help shows.
type hiddenPartFlags struct {
	IncludeSchema    []string `hidden:"" sep:"none"`
	ExcludeSchema    []string `hidden:"" sep:"none"`
	IncludeTable     []string `hidden:"" sep:"none"`
	ExcludeTable     []string `hidden:"" sep:"none"`
	ExcludeTableData []string `hidden:"" sep:"none"`
	SchemaOnly       bool     `hidden:""`
	DataOnly         bool     `hidden:""`
	Clean            bool     `hidden:""`
}

// refuse says why the first of the flags that is given makes no sense.
func (f copyOnlyFlags) refuse() error {
	flag, why := partFlags(f.hiddenPartFlags).given(), "run moves the whole database, since the applications would miss the rest after the cutover: use crossfade copy, or drop on the source what is not to be moved"
	switch {
	case flag == "data-only":
		why = "run restores the schema by itself, in an order that a cutover needs: use crossfade copy"
	case flag == "clean":
		why = "run begins with an empty target: drop what is there, or use crossfade copy"
	case flag == "" && f.AllDatabases:
		flag, why = "all-databases", "a run moves one database: start one for each"
	case flag == "":
		return nil
	}
	return exit.Usage(fmt.Errorf("--%s: %s", flag, why))
}

// printCopy prints what a copy did: a line for each database, and what was left out beneath.
func printCopy(w io.Writer, r oneshot.Report) {
	if len(r.Databases) == 0 || len(r.Databases) == 1 && r.Databases[0].Err != nil && len(r.Databases[0].Refused) == 0 {
		return // the error says it all
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "database\ttarget\ttables\trows\tsize\ttime\tresult")
	for _, d := range r.Databases {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", d.Source, d.Target, d.Tables, d.Rows, bytesText(d.Bytes), d.Took.Round(100*time.Millisecond), copyResult(d))
	}
	_ = table.Flush()
	for _, d := range r.Databases {
		if d.Err != nil && len(r.Databases) > 1 {
			fmt.Fprintf(w, "%s: %s\n", d.Source, oneLine(d.Err))
		}
		for _, f := range d.Refused {
			fmt.Fprintf(w, "refused: %s: %s\n", d.Source, f)
		}
		for _, n := range d.Notes {
			fmt.Fprintf(w, "note: %s: %s\n", d.Source, n)
		}
	}
}

func copyResult(d oneshot.DatabaseReport) string {
	switch {
	case d.Skipped != "":
		return d.Skipped
	case len(d.Refused) > 0:
		return fmt.Sprintf("copied, but for %d that the target refused", len(d.Refused))
	case d.Err != nil && exit.Code(d.Err) == exit.CodeRefused:
		return "refused"
	case d.Err != nil:
		return "not complete"
	case len(d.Notes) == 1:
		return "copied, 1 note"
	case len(d.Notes) > 0:
		return fmt.Sprintf("copied, %d notes", len(d.Notes))
	}
	return "copied"
}
