package stream

import (
	"errors"
	"fmt"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/walk"
)

// ErrMalformed is wrapped by every error about bytes that are no message of the
// logical replication protocol.
var ErrMalformed = errors.New("malformed replication message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// cursor is a walk over the fields of a message of the protocol.
type cursor struct{ walk.Bytes }

func (c *cursor) lsn() pg.LSN { return pg.LSN(c.Uint64()) }

// cstring reads up to the next zero byte and past it. The result is a copy.
func (c *cursor) cstring() string { return string(c.Text()) }
