package migration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/unconvertible"
	"crossfade/replicate/copy"
)

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
	source, open := m.Task.ConnectSource(ctx)
	if open != nil {
		return err
	}
	defer dbconn.CloseNow(source)
	row, look := unconvertible.Find(ctx, source, table.Table, "UTF8")
	if look != nil || row == nil {
		return err
	}
	return &unconvertibleError{*row, err}
}
