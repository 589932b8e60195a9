package inquiry

import "cmp"

import "github.com/jackc/pgx/v5"

// Pair is one source and one target, and what is asked for. It borrows the connections, which
// pg.Connect opened as the roles of the migration, and is not safe for concurrent use.
type Pair struct {
	Source, Target *pgx.Conn
	Options        Options // with their defaults
}

// New returns a pair of two open connections, which stay the caller's.
func New(source, target *pgx.Conn, o Options) (*Pair, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.LongTransaction = cmp.Or(o.LongTransaction, DefaultLongTransaction)
	o.ConvertFor = cmp.Or(o.ConvertFor, DefaultConvertFor)
	if o.PlatformRole == nil {
		o.PlatformRole = func(string) bool { return false }
	}
	return &Pair{Source: source, Target: target, Options: o}, nil
}
