package migration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/unconvertible"
	"crossfade/replicate/apply"
	"crossfade/replicate/copy"
	"crossfade/replicate/stream"
	"crossfade/schema/restore"
)

const (
	GoOnCopy = "run the same command again to continue: what was copied stays"
	ByItself = "it is tried again by itself"
)

// Remedy says what an operator can do about an error of the migration, and whether it can then
// continue where it was; "" if nothing particular is known.
func (m *Migration) Remedy(err error) (remedy string, goesOn bool) {
	name := "the table"
	if table, ok := errors.AsType[*copy.TableError](err); ok {
		name = table.Table.Display()
	}
	contradicted, unique := unbuildable(err)
	var bytes *unconvertibleError
	switch {
	case errors.As(err, &bytes):
		return bytes.row.Remedy(), true
	case pg.IsCode(err, pg.CodeDiskFull) && strings.Contains(err.Error(), "project size limit"):
		return "raise the limit of the target's project in Neon's console, or make room in it", true
	case pg.IsCode(err, pg.CodeDiskFull):
		return "make room on that server's disk", true
	case startsOver(err):
		return "start over: stop crossfade run, crossfade clean, crossfade run", false
	case errors.Is(err, copy.ErrGone):
		return "start over: crossfade clean, then the same command", false
	case pg.IsCode(err, pg.CodeInsufficientPrivilege) && errors.Is(err, copy.ErrRead):
		return fmt.Sprintf("GRANT SELECT ON %s TO %s on the source", name, pg.QuoteIdent(m.Task.Source.User())), true
	case pg.IsCode(err, pg.CodeInsufficientPrivilege) && errors.Is(err, copy.ErrWrite):
		return fmt.Sprintf("GRANT INSERT ON %s TO %s on the target", name, pg.QuoteIdent(m.Task.Target.User())), true
	case unique: // what the source's own index should have kept out
		return fmt.Sprintf("rows of %s contradict it: correct them on the source and REINDEX TABLE %s there", contradicted.Display(), contradicted), true
	}
	return "", true
}

// startsOver reports whether changes are lost, or cannot be told apart, so that no later
// attempt can follow them.
func startsOver(err error) bool {
	return errors.As(err, new(*stream.SlotAdvancedError)) || errors.As(err, new(*stream.SlotGoneError)) ||
		errors.As(err, new(*stream.SourceRewoundError)) || errors.As(err, new(*apply.RenamedError)) || errors.As(err, new(*apply.ScatteredError))
}

// Explained adds the remedy to an error with which a command ends.
func (m *Migration) Explained(err error, goOn string) error {
	what, goesOn := m.Remedy(err)
	switch {
	case what == "":
		return fmt.Errorf("%w; %s, or crossfade clean", err, goOn)
	case !goesOn:
		return fmt.Errorf("%w; %s", err, what)
	}
	return fmt.Errorf("%w; %s, then %s", err, what, goOn)
}

// unbuildable returns the table on which an index or a constraint could not be built because
// rows contradict it.
func unbuildable(err error) (table pg.Name, ok bool) {
	var said *pgconn.PgError
	if !errors.As(err, new(*restore.Error)) || !errors.As(err, &said) || said.TableName == "" {
		return pg.Name{}, false
	}
	return pg.Name{Schema: said.SchemaName, Name: said.TableName}, pg.IsCode(err, pg.CodeUniqueViolation, pg.CodeExclusionViolation)
}

// recopyTable makes the next start copy one table again: what is done to its rows on the source
// reaches the target in no other way before the indexes are there.
func (m *Rows) recopyTable(ctx context.Context, table pg.Name) error {
	err := m.task.onTarget(ctx, func(conn *pgx.Conn) error { return journal.RecopyTable(ctx, conn, table.Schema, table.Name) })
	if err == nil {
		m.task.SetPhase(journal.PhasePrepared)
	}
	return err
}

// Waiting is what the copy waits for, nil for nothing.
func (m *Rows) Waiting() error {
	m.task.mu.Lock()
	c := m.copier
	m.task.mu.Unlock()
	if c == nil || m.task.Reached(journal.PhaseCopied) {
		return nil
	}
	return c.Progress().Waiting
}

// namingTimeout bounds the search for the row at which a copy stopped: the whole table may have to
// be read.
const namingTimeout = 5 * time.Minute

// unconvertibleError is a copy's error that says which row it is about.
type unconvertibleError struct {
	row unconvertible.Rows
	err error
}

func (e *unconvertibleError) Error() string {
	return fmt.Sprintf("%v: it is %s, and %d rows of the table are so", e.err, e.row.Row(), e.row.Count)
}

func (e *unconvertibleError) Unwrap() error { return e.err }

// NamingRow adds the row to an error that the source cannot write its bytes in UTF8,
// which the server does not name.
func (m *Migration) NamingRow(ctx context.Context, err error) error {
	var table *copy.TableError
	if !errors.As(err, &table) || !errors.Is(err, copy.ErrRead) || !pg.IsCode(err, pg.CodeInvalidBytes, pg.CodeUntranslatable) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, namingTimeout)
	defer cancel()
	row, look := askSource(ctx, m.Task, nil, 0, func(ctx context.Context, source *pgx.Conn) (*unconvertible.Rows, error) {
		return unconvertible.Find(ctx, source, table.Table, "UTF8")
	})
	if look != nil || row == nil {
		return err
	}
	return &unconvertibleError{*row, err}
}
