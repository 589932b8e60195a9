package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"crossfade/internal/base/pg"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var errBatchLimit = errors.New("the target did not finish in time")

// executor sends steps to the target in pipelines: one round trip for all that
// one call of run is given. It is not safe for concurrent use.
type executor struct {
	conn     *pgx.Conn
	shapes   map[shape]*statement
	prepared map[*statement]string
	names    int // given out so far; a name is never used twice
}

func newExecutor(conn *pgx.Conn) *executor {
	return &executor{conn: conn, shapes: map[shape]*statement{}, prepared: map[*statement]string{}}
}

// statement returns the statement of a shape, the same each time.
func (x *executor) statement(s shape) *statement {
	st := x.shapes[s]
	if st == nil {
		st = s.build()
		x.shapes[s] = st
	}
	return st
}

// control is a step that is no change, such as BEGIN.
func control(sql string) step { return step{stmt: &statement{sql: sql}, want: -1, once: true} }

// failure is the error of one step.
type failure struct {
	step int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// run sends the steps as one pipeline and checks each answer. On the first error the server leaves
// out what follows, and the error is a *failure that names the step. The connection is left within
// a failed transaction then, or closed.
func (x *executor) run(ctx context.Context, steps []step) error {
	p := x.conn.PgConn().StartPipeline(ctx)
	type answer struct {
		step    int
		prepare *statement // not nil: the answer to Parse
	}
	var answers []answer
	names := map[*statement]string{}
	for n := range steps {
		s := &steps[n]
		var formats []int16
		if s.stmt.binary {
			formats = binaryFormat
		}
		name := cmp.Or(x.prepared[s.stmt], names[s.stmt])
		if name == "" && !s.once && x.names < maxPrepared {
			x.names++
			name = "crossfade_" + strconv.Itoa(x.names)
			names[s.stmt] = name
			p.SendPrepare(name, s.stmt.sql, nil)
			answers = append(answers, answer{n, s.stmt})
		}
		if name == "" {
			p.SendQueryParams(s.stmt.sql, s.params, nil, formats, nil)
		} else {
			p.SendQueryPrepared(name, s.params, formats, nil)
		}
		answers = append(answers, answer{n, nil})
	}
	if err := p.Sync(); err != nil {
		_ = p.Close()
		return fmt.Errorf("send batch: %w", err)
	}
	var first error
	for _, a := range answers {
		result, err := p.GetResults()
		if err == nil {
			switch result := result.(type) {
			case *pgconn.StatementDescription:
				x.prepared[a.prepare] = names[a.prepare]
				continue
			case *pgconn.ResultReader:
				err = check(&steps[a.step], result)
			}
		}
		if err != nil {
			first = &failure{step: a.step, err: err}
			break
		}
	}
	err := p.Close()
	switch {
	case first != nil:
		return first
	case err != nil:
		return fmt.Errorf("run batch: %w", err)
	}
	return nil
}

var binaryFormat = []int16{1}

func check(s *step, r *pgconn.ResultReader) error {
	tag, err := r.Close()
	if err != nil {
		return err
	}
	if got := tag.RowsAffected(); s.want >= 0 && got != s.want {
		return &countError{want: s.want, got: got}
	}
	if s.stmt.sql == commitSQL && tag.String() != commitSQL {
		return errors.New("the target rolled back instead of committing")
	}
	return nil
}

const commitSQL = "COMMIT"

// rollback ends a transaction if one is open.
func (x *executor) rollback(ctx context.Context) error {
	if x.conn.IsClosed() || x.conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	err := x.run(ctx, []step{control("ROLLBACK")})
	return pg.Wrap(err, "roll back")
}
