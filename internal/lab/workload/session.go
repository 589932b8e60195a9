package workload

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// statement is a statement with its parameters: int64 or string.
type statement struct {
	sql  string
	args []any
}

func sql(text string, args ...any) statement { return statement{text, args} }

// session is one connection as its driver gives it. It is used by one goroutine.
// After an error lost tells whether the connection still lives.
type session interface {
	// exec sends text as it is, for the set-up of the session.
	exec(ctx context.Context, text string) error
	// query runs one statement and returns its rows as text.
	query(ctx context.Context, st statement) ([][]string, error)
	// commit sends COMMIT and returns the server's command tag.
	commit(ctx context.Context) (string, error)
	// burst sends several statements that make one implicit transaction; only
	// the last one gives rows.
	burst(ctx context.Context, sts []statement) ([][]string, error)
	lost() bool
	close(ctx context.Context)
}

// refused reports whether the server said that the statement failed, so that its
// transaction cannot have committed.
func refused(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && pe.Severity == "ERROR"
}
