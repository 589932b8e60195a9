package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// loginTimeout bounds one login of a client. It covers a login that waits in a
// pause.
const loginTimeout = 30 * time.Second

// pgxSession is a session of pgx in one of its query modes.
type pgxSession struct{ conn *pgx.Conn }

func openPGX(ctx context.Context, dsn pg.DSN, mode pgx.QueryExecMode, name string) (*pgxSession, error) {
	cfg := dsn.Config()
	cfg.DefaultQueryExecMode = mode
	cfg.ConnectTimeout = loginTimeout
	cfg.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, pg.ConnectError(dsn, err)
	}
	return &pgxSession{conn}, nil
}

func (s *pgxSession) query(ctx context.Context, st statement) ([][]string, error) {
	rows, err := s.conn.Query(ctx, st.sql, st.args...)
	if err != nil {
		return nil, err
	}
	return texts(rows)
}

// exec goes past the query modes: pgx's simple protocol takes the $1 of a PREPARE
// for a parameter of its own.
func (s *pgxSession) exec(ctx context.Context, text string) error {
	_, err := s.conn.PgConn().Exec(ctx, text).ReadAll()
	return err
}

func (s *pgxSession) commit(ctx context.Context) (string, error) {
	tag, err := s.conn.Exec(ctx, "COMMIT")
	return tag.String(), err
}

func (s *pgxSession) burst(ctx context.Context, sts []statement) ([][]string, error) {
	var b pgx.Batch
	for _, st := range sts {
		b.Queue(st.sql, st.args...)
	}
	res := s.conn.SendBatch(ctx, &b)
	var out [][]string
	for i := range sts {
		rows, err := res.Query()
		if err == nil {
			out, err = texts(rows)
		}
		if err != nil {
			_ = res.Close()
			return nil, fmt.Errorf("statement %d of a burst: %w", i+1, err)
		}
	}
	// The transaction commits at the Sync, whose answer Close awaits.
	return out, res.Close()
}

func (s *pgxSession) lost() bool { return s.conn.IsClosed() }

func (s *pgxSession) close(ctx context.Context) { _ = s.conn.Close(ctx) }

// texts reads all rows. The scenarios select integers, booleans and text only,
// which have one form.
func texts(rows pgx.Rows) ([][]string, error) {
	defer rows.Close()
	var out [][]string
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return nil, err
		}
		row := make([]string, len(vals))
		for i, v := range vals {
			if v != nil {
				row[i] = fmt.Sprint(v)
			}
		}
		out = append(out, row)
	}
	return out, rows.Err()
}
