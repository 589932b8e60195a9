package ask

import (
	"context"
	"errors"

	"crossfade/proxy/state"
)

// preparedQuery returns the oldest prepared transaction of the database.
const preparedQuery = `SELECT pg_catalog.concat('transaction ', pg_catalog.quote_literal(x.gid), ', prepared by ', x.owner)` +
	` FROM pg_catalog.pg_prepared_xacts AS x WHERE x.database OPERATOR(pg_catalog.=) pg_catalog.current_database() ORDER BY x.prepared LIMIT 1`

// PreparedTransaction names the oldest prepared transaction of the database, "" for none.
func PreparedTransaction(ctx context.Context, l *state.Link) (string, error) {
	name := ""
	l.Command("look for prepared transactions", preparedQuery, nil, func(cols [][]byte) error {
		if len(cols) != 1 {
			return errors.New("rows of another form")
		}
		name = string(cols[0])
		return nil
	})
	return name, l.Flush(ctx)
}
