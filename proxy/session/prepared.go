package session

import (
	"context"
	"errors"
)

// EndsPrepared reports whether a text is one COMMIT PREPARED or ROLLBACK PREPARED.
func EndsPrepared(text string) bool {
	l := lexer{src: text}
	if t := l.next(); !t.word("commit") && !t.word("rollback") {
		return false
	}
	if !l.next().word("prepared") || l.next().kind != tokenString {
		return false
	}
	t := l.next()
	for t.other(";") || t.other("\x00") {
		t = l.next()
	}
	return t.kind == tokenEnd
}

// preparedQuery returns the oldest prepared transaction of the database.
const preparedQuery = `SELECT pg_catalog.concat('transaction ', pg_catalog.quote_literal(x.gid), ', prepared by ', x.owner)` +
	` FROM pg_catalog.pg_prepared_xacts AS x WHERE x.database OPERATOR(pg_catalog.=) pg_catalog.current_database() ORDER BY x.prepared LIMIT 1`

// PreparedTransaction names the oldest prepared transaction of the database, "" for none.
func (l *Link) PreparedTransaction(ctx context.Context) (string, error) {
	name := ""
	l.command("look for prepared transactions", preparedQuery, nil, func(cols [][]byte) error {
		if len(cols) != 1 {
			return errors.New("rows of another form")
		}
		name = string(cols[0])
		return nil
	})
	return name, l.flush(ctx)
}
