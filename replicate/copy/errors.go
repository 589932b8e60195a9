package copy

import (
	"errors"
	"fmt"

	"crossfade/internal/base/pg"
)

var (
	// ErrRead and ErrWrite say on which side a chunk met its error.
	ErrRead  = errors.New("read from source")
	ErrWrite = errors.New("write to target")
	// ErrGone says that a table, or one of its columns, no longer exists on the source. Only a copy
	// that starts again fixes that.
	ErrGone = errors.New("the table was dropped or altered on the source during the copy")
	// ErrMoment says that a snapshot was lost, or a table rewritten after it, where
	// every table must be of one moment.
	ErrMoment = errors.New("a table can be copied under another snapshot only")
)

// TableError is an error about one table.
type TableError struct {
	Table pg.Name
	Err   error
}

func (e *TableError) Error() string { return fmt.Sprintf("copy %s: %v", e.Table.Display(), e.Err) }

// Unwrap returns what went wrong.
func (e *TableError) Unwrap() error { return e.Err }

// gone puts ErrGone before what the source says of a name that it does not know.
func gone(err error) error {
	if errors.Is(err, ErrRead) && pg.IsCode(err, pg.CodeUndefinedTable, pg.CodeUndefinedColumn, pg.CodeInvalidSchema) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}
